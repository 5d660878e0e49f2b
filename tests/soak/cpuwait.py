# SPDX-License-Identifier: GPL-2.0-or-later
"""For how long threads had to wait for a CPU: what QEMU cannot be blamed for

The soak runs for hours, on machines that do other things as well.  A monitor is
not stuck if it is silent because the thread that would answer waits for a CPU.
What a process does while its monitor is silent is written down with them.
"""

import os

from threadwaits import Sample, Sampler, ThreadWaits, read, tasks

PERIOD = 0.1
SILENT = 0.5                    # seconds without an answer that are looked into


def _states(pid: int) -> str:
    """Where each thread is."""
    found = []
    for task in tasks(pid):
        state = read(task / 'stat').rpartition(')')[2].split()[:1]
        found.append(f'{read(task / "comm")} {"".join(state)} '
                     f'{read(task / "wchan")}')
    return ', '.join(found)


def _increase(samples: list[Sample], names: dict[int, str],
              vcpus: bool) -> float:
    """Of the other threads together, and of the vCPU that waited longest."""
    total, longest = 0.0, 0.0
    for thread, last in samples[-1].waited.items():
        first = next(s.waited[thread] for s in samples if thread in s.waited)
        if not names[thread].startswith('CPU '):
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
        self._waits: dict[int, ThreadWaits] = {}
        self._sampler = Sampler(PERIOD, self._take)

    def watch(self, *vms):
        """From here on these, and no others."""
        self.seen = []
        self._vms = list(vms)
        self._waits = {}

    def stop(self):
        self._sampler.stop()

    def _take(self):
        waits = self._waits
        for vm in list(self._vms):
            pid = vm.process.popen.pid
            waits.setdefault(pid, ThreadWaits(pid)).take()
            waiting = vm.prober.waiting()
            if waiting > SILENT and vm.process.running:
                self.seen.append(f'{vm.name}, silent for {waiting:.1f} s: '
                                 f'{_states(pid)}')
        own = os.getpid()
        waits.setdefault(own, ThreadWaits(own)).take()

    def waited(self, vm, start: float, end: float, vcpus: bool) -> float:
        """In an interval: @vm, with its @vcpus or without, and this process."""
        total = 0.0
        for pid in (vm.process.popen.pid, os.getpid()):
            waits = self._waits.get(pid)
            within = [s for s in list(waits.samples if waits else [])
                      if start - 2 * PERIOD <= s.begun <= end + 2 * PERIOD]
            if len(within) > 1:
                total += _increase(within, waits.names, vcpus)
        return total
