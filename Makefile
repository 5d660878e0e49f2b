# SPDX-License-Identifier: GPL-2.0-or-later
#
# Thin: the work is done by scripts/.  Everything is incremental and may be
# interrupted and run again, in any order; all results are below build/.

.DEFAULT_GOAL := all
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ifneq ($(DEMO_STOCK),)
demo_stock := stock
endif

.PHONY: help
help:
	@echo 'make              build/qemu-system-x86_64, patched, and its tools and tests'
	@echo 'make demo         the above, and the demo (DEMO_STOCK=1: unpatched beside it)'
	@echo 'make check        all tests that fit a coffee break'
	@echo 'make check-full   all tests: full sets, sanitizers, every prefix of the series'
	@echo 'make soak         500 migrations with random faults, under AddressSanitizer'
	@echo 'make bench        benchmarks against the unpatched QEMU, in build/bench'
	@echo "make upstream-tests  QEMU's own tests, patched beside unpatched"
	@echo 'make stock        build/stock/qemu-system-x86_64: the same source, unpatched'
	@echo 'make series       the mail series in build/series, applied and checked'
	@echo 'make docs         the manual, in build/docs'
	@echo 'make guest        the guest of the demo and the tests, in build/guest'
	@echo "make peer         Debian's own QEMU 10.0.2, in build/peer"
	@echo 'make clean        remove what was built; downloads stay'
	@echo 'make distclean    remove build/'
	@echo
	@echo 'QEMU_SRC=DIR or QEMU_TARBALL=FILE: use this QEMU 10.0.y (y >= 2)'
	@echo 'SOAK="--minutes 20 --seed 7": options for make soak, see tests/soak/soak --help'
	@echo 'SKIP_DEPS=1: install no packages    JOBS=N: compile N files at once'

.PHONY: all
all: deps
	@scripts/fetch-qemu
	@scripts/prepare-tree patched
	@scripts/build-qemu patched

.PHONY: deps
deps:
	@scripts/install-deps

.PHONY: stock
stock: deps
	@scripts/fetch-qemu
	@scripts/prepare-tree stock
	@scripts/build-qemu stock

.PHONY: guest
guest: deps
	@scripts/build-guest

.PHONY: peer
peer: deps
	@scripts/fetch-peer

.PHONY: demo
demo: all $(demo_stock) guest
	@scripts/install-deps --pictures
	@scripts/demo

.PHONY: check
check: all stock guest
	@scripts/fetch-peer || echo 'Going on: tests against that peer are skipped.'
	@scripts/run-tests

.PHONY: check-full
check-full: all stock guest
	@scripts/fetch-peer || echo 'Going on: tests against that peer are skipped.'
	@scripts/install-deps --full
	@scripts/install-deps --optional
	@scripts/build-qemu patched --sanitize=address
	@scripts/build-qemu patched --sanitize=thread
	@scripts/run-tests --full

.PHONY: bench
bench: all stock guest
	@scripts/install-deps --pictures
	@tests/bench/run-all

.PHONY: soak
soak: all guest
	@scripts/build-qemu patched --sanitize=address
	@tests/soak/soak --qemu build/asan/qemu-system-x86_64 $(SOAK)

.PHONY: upstream-tests
upstream-tests: all stock
	@scripts/upstream-tests

.PHONY: series
series: deps
	@scripts/fetch-qemu
	@scripts/prepare-tree patched
	@scripts/export-series --check

.PHONY: docs
docs:
	@scripts/install-deps --docs
	@scripts/fetch-qemu
	@scripts/prepare-tree patched
	@scripts/build-docs

.PHONY: clean
clean:
	rm -rf build/patched build/stock build/asan build/tsan build/prefix
	rm -rf build/docs build/guest build/demo build/bench build/faults
	rm -rf build/logs build/series build/soak build/tmp
	rm -f build/qemu-* build/upstream-tests.*

.PHONY: distclean
distclean:
	rm -rf build
