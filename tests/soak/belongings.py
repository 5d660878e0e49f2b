# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process has open, runs and keeps: it must not become more

What is compared is always the same process at the same point: it has the guest,
and no migration is under way.
"""

from collections import Counter
from dataclasses import dataclass, field
import contextlib
import os
from pathlib import Path
import re
import statistics

from rig import MEMORY_MIB
from vm import HarnessError, Process, until

MAPPING = re.compile(r'^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)$')

# Growth of the heap is a slope over so many turns in the same process.
LEAST_POINTS = 18
WARM_UP = 8                     # the first ones fill caches and pools


@dataclass
class Belongings:
    """At one moment."""
    descriptors: Counter = field(default_factory=Counter)
    threads: Counter = field(default_factory=Counter)
    children: Counter = field(default_factory=Counter)
    heap_kib: int = 0

    def more_than(self, other: 'Belongings') -> Counter:
        """What there is more of than in @other."""
        return (self.descriptors - other.descriptors) + \
            (self.threads - other.threads) + \
            (self.children - other.children)

    def counts(self) -> dict:
        return {'descriptors': self.descriptors.total(),
                'threads': self.threads.total(),
                'children': self.children.total(), 'heap-kib': self.heap_kib}


def _descriptors(process: Process) -> Counter:
    found = Counter()
    for path in Path(f'/proc/{process.popen.pid}/fd').iterdir():
        with contextlib.suppress(OSError):
            # The number of a socket says nothing, nor does the process's name.
            target = re.sub(r':\[\d+\]$', '', os.readlink(path))
            target = target.replace(process.name, '*')
            # Some have the guest's memory from there.
            if not target.startswith('/memfd:memory-backend'):
                found[f'descriptor {target}'] += 1
    return found


def _threads(pid: int) -> Counter:
    found = Counter()
    # Threads are named after the command line was read.  One exists by then,
    # which has a name or none, depending on how soon it runs.
    early = {Path(f'/proc/{pid}/comm').read_text().strip(), 'call_rcu'}
    for path in Path(f'/proc/{pid}/task').iterdir():
        with contextlib.suppress(OSError):
            name = (path / 'comm').read_text(errors='replace').strip()
            found['thread' if name in early else f'thread {name}'] += 1
    return found


def _heap_kib(pid: int) -> int:
    """Memory of its own, but for the guest's and for translated code."""
    total, counts, size = 0, True, 0
    for line in Path(f'/proc/{pid}/smaps').read_text().splitlines():
        mapping = MAPPING.match(line)
        if mapping:
            counts = 'w' in mapping[1] and 'x' not in mapping[1] and \
                not mapping[2].startswith('/')
        elif line.startswith('Size:'):
            size = int(line.split()[1])
        elif line.startswith('Private_Dirty:') and counts and \
                size != MEMORY_MIB * 1024:
            total += int(line.split()[1])
    return total


def look(process: Process) -> Belongings:
    pid = process.popen.pid
    return Belongings(_descriptors(process), _threads(pid),
                      Counter(child=len(process.children())),
                      _heap_kib(pid))


def slope(values: list[float]) -> float:
    """How much is added from one to the next; the median of all pairs."""
    steps = [(b - a) / (j - i) for i, a in enumerate(values)
             for j, b in enumerate(values) if j > i]
    return statistics.median(steps)


class Keeper:
    """Watches one process from turn to turn while it has the guest.

    @boot: what the process had that booted the guest.  One that got it by a
    migration has no more, but for a few descriptors, which QEMU opens when they
    are first needed, and keeps.
    """

    KEPT = 3

    # Threads of pools go after ten seconds with nothing to do.
    PATIENCE = 15

    def __init__(self, process: Process, limit_kib: float,
                 boot: Belongings | None):
        self.process = process
        self.limit_kib = limit_kib
        self.boot = boot
        self.first: Belongings | None = None
        self.last: Belongings | None = None
        self.heap: list[int] = []

    @property
    def growth_kib(self) -> float | None:
        """Of the heap, per turn, if there were enough of them."""
        if len(self.heap) < LEAST_POINTS:
            return None
        return slope(self.heap[WARM_UP:])

    async def check(self):
        """After a turn.  Raises HarnessError if there is more than before."""
        if self.first:
            await self._expect_no_more(self.first, 0)
        elif self.boot:
            await self._expect_no_more(self.boot, self.KEPT)
        else:
            self.last = look(self.process)
        self.first = self.first or self.last
        self.heap.append(self.last.heap_kib)
        self._expect_no_growth()

    async def _expect_no_more(self, before: Belongings, kept: int):
        def settled():
            self.process.check()
            self.last = look(self.process)
            more = self.last.more_than(before)
            return not more or sum(more.values()) <= kept and not any(
                what.startswith('thread') for what in more)
        try:
            await until(settled, self.PATIENCE, 'it')
        except HarnessError:
            self.process.check()
            more = ', '.join(f'{n} {what}' for what, n in
                             self.last.more_than(before).items())
            raise HarnessError(f'{self.process.name} has more than there was '
                               f'before: {more}') from None

    def _expect_no_growth(self):
        growth = self.growth_kib
        if growth is not None and growth > self.limit_kib:
            raise HarnessError(
                f'the memory of {self.process.name} grows by {growth:.0f} KiB '
                f'per turn: {self.heap}')
