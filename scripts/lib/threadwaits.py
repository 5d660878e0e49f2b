# SPDX-License-Identifier: GPL-2.0-or-later
"""For how long threads could have run, and had no CPU: the kernel's account

Linux counts that for each thread, in /proc/PID/task/TID/schedstat.  What is made
of it depends on who waits for whom, which is for whoever asks.

A Sampler takes samples in a thread of its own: an event loop may have to wait
for a CPU, too.
"""

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import dataclass
from pathlib import Path
import threading
import time


@dataclass(frozen=True)
class Sample:
    """By thread, how many seconds it had waited by then.

    begun, done: when the first thread was looked at, and the last one
    """
    begun: float
    done: float
    waited: dict[int, float]


def tasks(pid: int) -> Iterator[Path]:
    """The threads of a process, as folders in /proc; none if it is gone."""
    with contextlib.suppress(OSError):
        yield from Path(f'/proc/{pid}/task').iterdir()


def read(path: Path) -> str:
    """What is there; nothing if the thread has ended meanwhile."""
    with contextlib.suppress(OSError):
        return path.read_text(errors='replace').strip()
    return ''


class ThreadWaits:
    """Of one process.

    samples: all that were taken
    names: of the threads that were seen
    """

    def __init__(self, pid: int):
        self.pid = pid
        self.samples: list[Sample] = []
        self.names: dict[int, str] = {}

    def take(self):
        """One sample more."""
        begun, waited = time.monotonic(), {}
        for task in tasks(self.pid):
            words = read(task / 'schedstat').split()
            if len(words) == 3:
                thread = int(task.name)
                waited[thread] = int(words[1]) / 1e9
                self._name(thread, task)
        self.samples.append(Sample(begun, time.monotonic(), waited))

    def _name(self, thread: int, task: Path):
        # A thread bears the name of its process until it takes one of its own.
        if self.names.get(thread) in (None, '', self.names.get(self.pid)):
            self.names[thread] = read(task / 'comm')


class Sampler:
    """Calls @take every @period seconds until stop()."""

    def __init__(self, period: float, take: Callable[[], None]):
        self._period = period
        self._take = take
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.wait(self._period):
            self._take()
