# SPDX-License-Identifier: GPL-2.0-or-later
"""Was it the machine?  How long processes were kept waiting for a CPU

Two witnesses.  One is a process that wants next to nothing, see late: when it
is late, anybody may have been.  The other is the kernel's account of each of
QEMU's threads: for how long it could have run, and had no CPU.  An answer of
the monitor takes the main thread, the monitor's, and one that has the BQL.
"""

import asyncio
from pathlib import Path
import subprocess
import threading
import time

from threadwaits import Sampler, ThreadWaits

HERE = Path(__file__).resolve().parent
PERIOD_S = 0.02
CALM_S, CALM_SHARE = 1.0, 0.02
MONITOR = 'mon_iothread'


class Lateness:
    """How late the process was that wants next to nothing."""

    def __init__(self):
        self.seen: list[tuple[float, float]] = []
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self):
        self._process = subprocess.Popen(
            [str(HERE / 'late')], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._process.stdout.readline()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self):
        for line in self._process.stdout:
            at, delay = line.split()
            self.seen.append((float(at), float(delay)))

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)
        self._thread.join()
        self._process.stdout.close()

    async def calm(self, timeout: float):
        """Until it was hardly ever late for a while; or until the timeout."""
        deadline = time.monotonic() + timeout
        while (now := time.monotonic()) < deadline:
            await asyncio.sleep(CALM_S)
            if self.total(now, now + CALM_S) < CALM_SHARE * CALM_S:
                return

    def total(self, start: float, end: float) -> float:
        """For how many seconds of this interval it was kept waiting."""
        return sum(max(0, min(at, end) - max(at - delay, start))
                   for at, delay in self.seen)


class RunDelay:
    """For how long the threads of a process waited for a CPU."""

    def __init__(self, pid: int):
        self._waits = ThreadWaits(pid)
        self._sampler: Sampler | None = None

    def __enter__(self):
        self._sampler = Sampler(PERIOD_S, self._waits.take)
        return self

    def __exit__(self, *_):
        self._sampler.stop()

    def _is_chained(self, thread: int) -> bool:
        return thread == self._waits.pid or MONITOR in self._waits.names[thread]

    def total(self, start: float, end: float) -> float:
        """In seconds: the main thread, the monitor's, and the worst of others.

        These wait for each other, the others next to each other.
        """
        samples = list(self._waits.samples)
        if not samples:
            return 0
        before = ([s for s in samples if s.done <= start] or samples[:1])[-1]
        after = ([s for s in samples if s.done >= end] or samples[-1:])[0]
        waited = {thread: seconds - before.waited.get(thread, seconds)
                  for thread, seconds in after.waited.items()}
        chain = [thread for thread in waited if self._is_chained(thread)]
        others = [waited[thread] for thread in waited if thread not in chain]
        return sum(waited[thread] for thread in chain) + max(others, default=0)
