# SPDX-License-Identifier: GPL-2.0-or-later
"""What disks were asked, and when, by the log of nbdkit's log filter

The server sees the same, whichever QEMU asks, and it costs that QEMU nothing.
Reads and writes only: a guest's request is one of these here, a flush may be
QEMU's own.

Times are seconds on time.monotonic()'s clock.
"""

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
import time

ACTIONS = {'Read': +1, 'Write': +1, '...Read': -1, '...Write': -1}


class DiskLog:
    """The requests of some disks.

    arrived, answered: when requests did, each in order
    """

    def __init__(self, paths: Iterable[Path]):
        self.arrived: list[float] = []
        self.answered: list[float] = []
        for path in paths:
            self._read(path)
        self.arrived.sort()
        self.answered.sort()

    # 2026-01-31 12:00:00.123456 connection=1 Write id=7 offset=0x0 ...
    # 2026-01-31 12:00:00.323456 connection=1 ...Write id=7 return=0
    def _read(self, path: Path):
        offset = time.monotonic() - time.time()
        second_text, second = '', 0.0
        with open(path, encoding='ascii', errors='replace') as log:
            for line in log:
                words = line.split(' ', 4)
                change = ACTIONS.get(words[3]) if len(words) == 5 else None
                if not change:
                    continue
                if line[:19] != second_text:
                    second_text = line[:19]
                    second = offset + time.mktime(
                        time.strptime(second_text, '%Y-%m-%d %H:%M:%S'))
                at = second + float(line[19:26])
                (self.arrived if change > 0 else self.answered).append(at)

    def in_flight(self, at: float) -> int:
        """Requests that had arrived and were not answered."""
        return bisect_right(self.arrived, at) - bisect_right(self.answered, at)

    def mean_in_flight(self, start: float, end: float) -> float:
        """The mean of in_flight() over an interval, by samples."""
        samples = 500
        return sum(self.in_flight(start + (end - start) * (i + 0.5) / samples)
                   for i in range(samples)) / samples

    def arrivals(self, start: float, end: float) -> int:
        """Requests that arrived in an interval."""
        return (bisect_right(self.arrived, end) -
                bisect_right(self.arrived, start))

    def answers(self, start: float, end: float) -> int:
        """Requests that were answered in an interval."""
        return (bisect_right(self.answered, end) -
                bisect_right(self.answered, start))

    def longest_lull(self, start: float, end: float) -> float:
        """The longest time within an interval in which none arrived."""
        inside = self.arrived[bisect_right(self.arrived, start):
                              bisect_right(self.arrived, end)]
        times = [start, *inside, end]
        return max(b - a for a, b in zip(times, times[1:]))
