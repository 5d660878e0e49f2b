# SPDX-License-Identifier: GPL-2.0-or-later
"""For how long threads had to wait for a CPU: what QEMU cannot be blamed for

The soak runs for hours, on machines that do other things as well.  A monitor is
not stuck if it is silent because the thread that would answer waits for a CPU.
The kernel counts that time for each thread (/proc/PID/task/TID/schedstat).

A thread of its own takes samples, since the event loop may have to wait, too.
What a process does while its monitor is silent is written down with them.
"""

import contextlib
from dataclasses import dataclass, field
import os
from pathlib import Path
import threading
import time

PERIOD = 0.1
SILENT = 0.5                    # seconds without an answer that are looked into


@dataclass
class Sample:
    """Of one process: seconds waited so far, by thread."""
    at: float
    waited: dict[tuple[int, str], float] = field(default_factory=dict)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors='replace').strip()
    return ''


def _sample(pid: int) -> Sample:
    sample = Sample(time.monotonic())
    with contextlib.suppress(OSError):
        for task in Path(f'/proc/{pid}/task').iterdir():
            words = _read(task / 'schedstat').split()
            if len(words) == 3:
                key = (int(task.name), _read(task / 'comm'))
                sample.waited[key] = int(words[1]) / 1e9
    return sample


def _states(pid: int) -> str:
    """Where each thread is."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f'/proc/{pid}/task').iterdir():
            state = _read(task / 'stat').rpartition(')')[2].split()[:1]
            found.append(f'{_read(task / "comm")} {"".join(state)} '
                         f'{_read(task / "wchan")}')
    return ', '.join(found)


def _increase(samples: list[Sample], vcpus: bool) -> float:
    """Of the other threads together, and of the vCPU that waited longest."""
    total, longest = 0.0, 0.0
    for key, last in samples[-1].waited.items():
        first = next((s.waited[key] for s in samples if key in s.waited), last)
        if not key[1].startswith('CPU '):
            total += last - first
        elif vcpus:
            longest = max(longest, last - first)
    return total + longest


class CpuWaits:
    """Watches processes, and this one, until stop().

    seen: what was written down about monitors that were silent
    """

    def __init__(self):
        self.seen: list[str] = []
        self._vms: list = []
        self._samples: dict[int, list[Sample]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def watch(self, *vms):
        """From here on these, and no others."""
        self.seen = []
        self._vms = list(vms)
        self._samples = {}

    def stop(self):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.wait(PERIOD):
            samples = self._samples
            for vm in list(self._vms):
                pid = vm.process.popen.pid
                samples.setdefault(pid, []).append(_sample(pid))
                waiting = vm.prober.waiting()
                if waiting > SILENT and vm.process.running:
                    self.seen.append(f'{vm.name}, silent for {waiting:.1f} s: '
                                     f'{_states(pid)}')
            samples.setdefault(os.getpid(), []).append(_sample(os.getpid()))

    def waited(self, vm, start: float, end: float, vcpus: bool) -> float:
        """In an interval: @vm, with its @vcpus or without, and this process."""
        total = 0.0
        for pid in (vm.process.popen.pid, os.getpid()):
            within = [s for s in list(self._samples.get(pid, []))
                      if start - 2 * PERIOD <= s.at <= end + 2 * PERIOD]
            if len(within) > 1:
                total += _increase(within, vcpus)
        return total
