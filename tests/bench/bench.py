# SPDX-License-Identifier: GPL-2.0-or-later
"""What every benchmark needs: fair turns, medians, claims, results in a file

A speed is nothing by itself: machines differ, and so do two hours of the same
machine.  So a benchmark compares the patched QEMU with the unpatched one within
one run, in turns, and what it claims is about medians of such turns.

Exit status of a benchmark: 0 every claim holds, 1 one does not (or something
went wrong while measuring), 2 something is missing.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import re
import shutil
import statistics
import time

import guestscript
from guestscript import check_ready
from machine import describe
from netns import NetworkError
from term import Terminal
from vm import BUILD, HarnessError

# Somewhere else for what shall not replace the results of a real run.
OUTPUT = Path(os.environ.get('BENCH_OUTPUT', BUILD / 'bench'))


# ---- numbers ----------------------------------------------------------------

def median(values: Sequence[float | None]) -> float | None:
    """The median of those that there are, None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(value: float | None, base: float | None) -> float | None:
    """@value / @base, None if it cannot be told."""
    return value / base if value is not None and base else None


def rounds(results: Iterable, what: str, *of: str) -> list[dict[str, float]]:
    """@what of each variant, turn by turn.

    @of: what else those have in common that are compared, such as 'round'
    """
    found: dict[tuple, dict[str, float]] = {}
    for result in results:
        key = tuple(getattr(result, name) for name in ('turn', *of))
        found.setdefault(key, {})[result.variant] = getattr(result, what)
    return list(found.values())


def pairs(turns: Iterable[dict[str, float]], variant: str,
          base: str) -> list[float]:
    """Ratios of @variant to @base, of those of rounds() that have both."""
    found = [ratio(each.get(variant), each.get(base)) for each in turns]
    return [value for value in found if value is not None]


def cell(value: float | None, digits: int = 0) -> str:
    """A number for a table."""
    return '-' if value is None else f'{value:.{digits}f}'


def percent(value: float | None) -> str:
    """A share for a table."""
    return '-' if value is None else f'{value * 100:.0f} %'


def in_turns(items: Sequence, turn: int) -> list:
    """@items, back to front in every second turn.

    So none of them always has the colder cache, or the busier minute.
    """
    return list(items if turn % 2 == 0 else reversed(items))


def rotated(items: Sequence, turn: int) -> list:
    """@items, beginning with another one in each turn."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]


# ---- claims -----------------------------------------------------------------

@dataclass(frozen=True)
class Claim:
    """Something that is promised.

    @holds: None if what was measured does not tell
    @seen: what was measured
    """
    text: str
    holds: bool | None
    seen: str

    def line(self, term: Terminal) -> str:
        words = {True: term.good('pass'), False: term.warning('FAIL'),
                 None: 'skip'}
        return f'{words[self.holds]}  {self.text}: {self.seen}'


# ---- the command line -------------------------------------------------------

class Parser(argparse.ArgumentParser):
    """Has what all benchmarks have: --runs, --qemu, --stock-qemu."""

    def __init__(self, description: str, runs: int):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument('--runs', type=int, default=runs, metavar='N',
                          help=f'turns to take the medians of ({runs})')
        self.add_argument('--qemu', type=Path, metavar='PATH',
                          default=BUILD / 'qemu-system-x86_64',
                          help='the patched QEMU')
        self.add_argument('--stock-qemu', type=Path, metavar='PATH',
                          default=BUILD / 'stock' / 'qemu-system-x86_64',
                          help='the unpatched QEMU')

    def parse_args(self, args=None, namespace=None):
        result = super().parse_args(args, namespace)
        if not 1 <= result.runs <= 100:
            self.error('--runs: from 1 to 100')
        result.qemu = result.qemu.absolute()
        result.stock_qemu = result.stock_qemu.absolute()
        return result


def number_list(text: str) -> list[int]:
    """Type of an option: numbers separated by commas."""
    try:
        numbers = sorted({int(word) for word in text.split(',')})
    except ValueError:
        numbers = [0]
    if numbers[0] < 1:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers, such as 1,200")
    return numbers


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Type of an option: some of @known, separated by commas."""
    def chosen(text: str) -> list[str]:
        words = text.split(',')
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(
                    f"'{word}' is none of {', '.join(known)}")
        return [name for name in known if name in words]
    return chosen


def check(args):
    check_ready((args.qemu, 'run make'), (args.stock_qemu, 'run make stock'))


# ---- results ----------------------------------------------------------------

class Report:
    """What a benchmark found, on the terminal and in build/bench/NAME.json.

    @args: of Parser
    @settings: what of them, and of constants, a reader has to know
    """

    def __init__(self, name: str, term: Terminal, args, settings: dict):
        self.path = OUTPUT / f'{name}.json'
        self.binaries = {path: self._stamp(path)
                         for path in (args.qemu, args.stock_qemu)}
        self.term = term
        self.failures: list[str] = []
        self.claims: list[Claim] = []
        self.begun = time.time()
        self.data = {'settings': settings, 'cpus': os.cpu_count(),
                     'machine': describe(),
                     'load': {'begin': os.getloadavg()}}

    @staticmethod
    def _stamp(path: Path) -> int | None:
        return path.stat().st_mtime_ns if path.exists() else None

    def fail(self, text: str):
        """Something went wrong while measuring."""
        self.failures.append(text)
        self.term.say(self.term.warning(f'FAILED  {text}'))

    def show(self, text: str):
        """What goes on; a log has the lines that stay, that will do."""
        if self.term.live:
            seconds = int(time.time() - self.begun)
            self.term.status(f'{seconds // 60:2}:{seconds % 60:02}  {text}')

    async def attempt(self, what: str, experiment, *args):
        """The result of experiment(*args, directory), None if that went wrong.

        @what: in words; what is in the directory stays only if it went wrong
        """
        directory = self.path.with_suffix('') / re.sub(r'[^\w.-]+', '-', what)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.show(what)
        try:
            result = await experiment(*args, directory)
        except (HarnessError, NetworkError) as err:
            self.fail(f'{what}: {err} (see {os.path.relpath(directory)})')
            return None
        shutil.rmtree(directory)
        return result

    def save(self):
        self.data['load']['end'] = os.getloadavg()
        self.data.update(
            begun=time.strftime('%Y-%m-%dT%H:%M:%S%z',
                                time.localtime(self.begun)),
            seconds=round(time.time() - self.begun, 1),
            claims=[asdict(claim) for claim in self.claims],
            failures=self.failures)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.data, indent=1) + '\n',
                             encoding='utf-8')

    def conclude(self, lines: Iterable[str] = ()) -> int:
        """Print a table's @lines and the claims, and save everything.

        Returns the exit status.
        """
        for line in ['', *lines, ''] if lines else []:
            self.term.say(line)
        for path, stamp in self.binaries.items():
            if self._stamp(path) != stamp:
                self.fail(f'{os.path.relpath(path)} was built anew meanwhile: '
                          'measure again')
        self.save()
        for claim in self.claims:
            self.term.say(claim.line(self.term))
        if self.failures:
            self.term.say(self.term.warning('FAIL') +
                          f'  went wrong while measuring: '
                          f'{len(self.failures)}')
        self.term.say()
        self.term.say('All that was measured, run by run: '
                      f'{os.path.relpath(self.path)}')
        failed = [claim for claim in self.claims if claim.holds is False]
        return 1 if failed or self.failures else 0


def main(name: str, benchmark, args) -> int:
    """Run @benchmark(args, term), an asyncio function, to its exit status."""
    return guestscript.main(name, check, benchmark, args)
