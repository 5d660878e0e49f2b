# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own tests, in the patched and in the unpatched build

A Suite is a program (or some of its tests) that both builds have.  Each runs in
its own build directory, with what was built there, where /dev/kvm is not in
sight.
"""

import functools
import os
from pathlib import Path
import re
import subprocess
import sys
import threading

import nokvm
from common import BUILD, Error, run, say
from taprun import TapRun

SIDES = ['patched', 'stock']
LOGS = BUILD / 'logs' / 'upstream'
PCI = '/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus'
CRASHES = 5             # of one program, before it is given up
STOPPING = threading.Event()    # ends what runs, which then has no result


@functools.cache
def without_kvm() -> list[str]:
    """What to put before a command."""
    return nokvm.wrapper()


class Stopped(Exception):
    """What was run has been ended on request."""


def run_tap(limit_s: int, on_result, *args, **kwargs) -> str | None:
    """As TapRun.run()."""
    trouble = TapRun(limit_s, on_result, stopping=STOPPING).run(*args,
                                                                **kwargs)
    if STOPPING.is_set():
        raise Stopped
    return trouble


def obj(side: str) -> Path:
    return BUILD / side / 'obj'


def environment(side: str) -> dict:
    """For programs that look for others in the environment."""
    here = obj(side)
    return {
        **os.environ,
        'QTEST_QEMU_BINARY': str(here / 'qemu-system-x86_64'),
        'QTEST_QEMU_IMG': str(here / 'qemu-img'),
        'QTEST_QEMU_STORAGE_DAEMON_BINARY':
            str(here / 'storage-daemon/qemu-storage-daemon'),
        'G_TEST_SRCDIR': str(BUILD / side / 'src/tests/unit'),
        'G_TEST_BUILDDIR': str(here / 'tests/unit'),
        'PYTHON': sys.executable,
        'PYTHONDONTWRITEBYTECODE': '1',
    }


class GlibSuite:
    """A program of GLib's test framework.

    @options: beyond --tap
    @prefixes: of the names of its tests; all of them if there are none
    """

    def __init__(self, name: str, program: str, limit_s: int,
                 options=(), prefixes=()):
        self.name = name
        self.program = program
        self.limit_s = limit_s
        self.options = list(options)
        self.prefixes = list(prefixes)

    def build(self, side: str):
        """With ninja, unless it is there."""
        if not (obj(side) / self.program).exists():
            say(f'building {self.program} in build/{side} ...')
            run(['ninja', '-C', obj(side), self.program],
                stdout=subprocess.DEVNULL)

    def expected(self, side: str) -> list[str]:
        """The names of its tests, in order."""
        # There are more where KVM is in sight.
        listed = run([*without_kvm(), obj(side) / self.program, *self.options, '-l'],
                     cwd=obj(side), env=environment(side), text=True,
                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return [line for line in listed.stdout.splitlines()
                if line.startswith(tuple(self.prefixes or '/'))]

    def _argv(self, side: str, chosen: list[str],
              done: set[str]) -> list[str]:
        argv = [str(obj(side) / self.program), '--tap', '-k', *self.options]
        left = [name for name in chosen if name not in done]
        if self.prefixes or len(chosen) < len(self.expected(side)) or done:
            argv += [word for name in left for word in ('-r', name)]
            # -r is for all that begins with it, too.
            argv += [word for name in self.expected(side) if name not in left
                     for word in ('-s', name)]
        return argv

    def run(self, side: str, chosen: list[str], add):
        """Run @chosen tests; add(name, state, remark, seconds) for each.

        If a test takes the program with it, that test has failed, and those
        after it are run by themselves.
        """
        done: set[str] = set()
        log = LOGS / f'{side}-{self.name}.log'
        # What the log tells of other tests stays.
        part = len(chosen) < len(self.expected(side))
        for attempt in range(CRASHES):
            def result(state, name, remark, seconds):
                if name in chosen and name not in done:
                    done.add(name)
                    add(name, state, remark, seconds)
            trouble = run_tap(
                self.limit_s, result,
                [*without_kvm(), *self._argv(side, chosen, done)], log,
                'ab' if attempt or part else 'wb', cwd=obj(side),
                env=environment(side))
            left = [name for name in chosen if name not in done]
            if not left:
                return
            # The tests run in the order in which they are listed.
            result('fail', left[0], trouble or 'no result', 0)
            if len(left) == 1:
                return
        for name in left[1:]:
            add(name, 'fail', 'not run: the program crashed too often', 0)


class IoSuite:
    """Some of tests/qemu-iotests, for qcow2, or for raw if not for that.

    @wanted(text): does a test with this source belong to it?
    """

    program = 'tests/qemu-iotests/check'

    def __init__(self, name: str, limit_s: int, wanted):
        self.name = name
        self.limit_s = limit_s
        self.wanted = wanted

    def build(self, side: str):
        if not (obj(side) / self.program).exists():
            raise Error(f'build/{side}/obj/{self.program} is not there')

    @staticmethod
    def _source(side: str) -> Path:
        return BUILD / side / 'src/tests/qemu-iotests'

    def expected(self, side: str) -> list[str]:
        source = self._source(side)
        found = [*source.glob('[0-9][0-9][0-9]'),
                 *(path for path in source.glob('tests/*')
                   if path.suffix != '.out')]
        return sorted(path.name for path in found if path.is_file() and
                      self.wanted(path.read_text(errors='replace')))

    def run(self, side: str, chosen: list[str], add):
        """As that of GlibSuite."""
        left = self._run_with('qcow2', side, chosen, add)
        if left:
            self._run_with('raw', side, left, add)

    def _run_with(self, image: str, side: str, chosen: list[str],
                  add) -> list[str]:
        """Returns those that do not want this kind of image."""
        work = BUILD / 'tmp' / f'iotests-{side}'
        work.mkdir(parents=True, exist_ok=True)
        check = obj(side) / self.program
        done, unsuitable = set(), []

        def result(state, name, remark, seconds):
            name = name.removeprefix(f'{image} ')
            if state == 'skip':
                remark = self._reason(work, f'{image}-file-{name}', name)
                if 'image format' in remark and image == 'qcow2':
                    unsuitable.append(name)
            done.add(name)
            add(name, state, remark, seconds)
        trouble = run_tap(
            self.limit_s, result,
            [*without_kvm(), sys.executable, '-B', str(check), '-tap', f'-{image}',
             '--build-dir', str(check.parent),
             '--source-dir', str(self._source(side)), *chosen],
            LOGS / f'{side}-{self.name}-{image}.log', cwd=work,
            env={**environment(side), 'TEST_DIR': str(work)})
        for name in chosen:
            if name not in done:
                add(name, 'fail', trouble or 'no result', 0)
        return unsuitable

    @staticmethod
    def _reason(work: Path, where: str, name: str) -> str:
        """TAP of iotests does not say why one is skipped; a file does."""
        try:
            return (work / where / f'{name}.notrun').read_text(
                encoding='utf-8').strip()
        except OSError:
            return ''


def in_group(text: str, group: str) -> bool:
    """Is an iotest with this source in @group?"""
    line = re.search(r'^# group:(.*)$', text, re.MULTILINE)
    return bool(line) and group in line[1].split()


SUITES = [
    GlibSuite('migration-test', 'tests/qtest/migration-test', 5400,
              ['--full', '-m', 'slow']),
    GlibSuite('vhost-user-test', 'tests/qtest/qos-test', 1200, ['-m', 'slow'],
              [f'{PCI}/virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/',
               f'{PCI}/vhost-user-gpio-pci/']),
    GlibSuite('vhost-user-blk-test', 'tests/qtest/qos-test', 1200,
              ['-m', 'slow'], [f'{PCI}/vhost-user-blk-pci/']),
    GlibSuite('test-bdrv-drain', 'tests/unit/test-bdrv-drain', 600),
    IoSuite('iotests-migration', 2400,
            lambda text: in_group(text, 'migration')),
    IoSuite('iotests-drain', 2400,
            lambda text: 'drain' in text and not in_group(text, 'migration')),
]
