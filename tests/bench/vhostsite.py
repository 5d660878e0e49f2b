# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with many vhost-user devices, whose backends take their time

A turn begins and ends with a stopped guest: it is started, all devices have to
work, and it is stopped.  "cont" is answered when the guest runs, which may be
before all devices do; so what counts is when the last of them has got its last
message, by the simulator's log.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
import time

from vhostsim import VhostSim
from vm import HarnessError, Heart, Vm, guest_args, until

ON, OFF, STOCK = 'on', 'off', 'stock'

CPUS = 8
MEMORY = '2G'
QUEUE_PAIRS, QUEUES = 32, 4
# Both make unpatched take about the 5.6 s of the report.
WAKEUP = 'wakeup ANY:2800'
SERIAL = 'serial GET_VRING_BASE:3300,SET_VRING_ENABLE:1600'

WAIT_S = 60
QUIET_S = 0.1                   # no message for that long: nothing goes on


@dataclass(frozen=True)
class Kind:
    """What is measured."""
    nics: int
    disks: int
    latency: str = WAKEUP
    variants: tuple[str, ...] = (ON, STOCK)

    @property
    def devices(self) -> int:
        return self.nics + self.disks

    @property
    def vrings(self) -> int:
        return self.nics * 2 * QUEUE_PAIRS + self.disks * QUEUES

    @property
    def name(self) -> str:
        latency = self.latency.split()[0] if self.latency else '-'
        return f'{self.nics} + {self.disks}, {latency}'


@dataclass
class Turn:
    """One start and one stop.

    stop_ms: until "stop" is answered
    cont_ms: until "cont" is answered
    start_ms: until the last device has started, and "cont" is answered
    """
    kind: Kind
    variant: str
    turn: int
    stop_ms: float
    cont_ms: float
    start_ms: float

    @property
    def sum_ms(self) -> float:
        return self.stop_ms + self.start_ms


def in_ms(start: float, end: float | None = None) -> float:
    return ((end or time.monotonic()) - start) * 1000


class Site:
    """A guest with its devices, in a QEMU."""

    def __init__(self, kind: Kind, directory: Path, binary: Path,
                 *args: str, before: 'Site | None' = None):
        self.kind = kind
        directory.mkdir(parents=True, exist_ok=True)
        self.sim = VhostSim(directory, kind.nics, QUEUE_PAIRS, kind.disks,
                            QUEUES)
        disks = ','.join(f'vd{chr(ord("a") + i)}' for i in range(kind.disks))
        self.vm = Vm('qemu', directory, binary, [
            '-smp', str(CPUS), *self.sim.qemu_args(MEMORY), *args,
            *guest_args(disks, think=50000, depth=1, blocks=16,
                        nics=kind.nics, nicms=100)],
            before.vm if before else None)

    async def enter(self, stack: AsyncExitStack, latency: str = ''):
        """Until the end of @stack.  @latency: from the beginning"""
        stack.enter_context(self.sim)
        if latency:
            self.sim.order(f'latency * {latency}')
        await stack.enter_async_context(self.vm)
        # What it takes to answer it would be measured, too.
        self.vm.prober.stop()
        return self

    async def _frames(self) -> int:
        """How many came back to the guest."""
        return int((await self.vm.serial.command('netstats')).split()[1])

    async def works(self):
        """Frames and requests get through that were sent from now on."""
        kind, serial = self.kind, self.vm.serial
        # Those of one round may have been on their way.
        requests = await serial.operations() + kind.disks
        frames = await self._frames() + kind.nics if kind.nics else 0
        end = time.monotonic() + WAIT_S
        while ((kind.disks and await serial.operations() <= requests) or
               (kind.nics and await self._frames() <= frames)):
            if time.monotonic() > end:
                raise HarnessError(f'waited {WAIT_S} s for frames, requests')
            await asyncio.sleep(0.02)

    async def verify(self):
        if self.kind.disks:
            await self.vm.serial.command('verify', WAIT_S)
        if self.vm.serial.errors:
            raise HarnessError(f'{self.vm.serial.errors} failed requests')

    # -- queues

    def _running(self) -> int:
        return sum(queue['running'] for device in self.sim.stats('*')
                   for queue in device['queues'])

    def _busy(self) -> bool:
        return any(kind['pending'] for device in self.sim.stats('*')
                   for kind in device['messages'].values())

    def check_stopped(self):
        """Also all of the queues have been asked."""
        answered = sum(
            device['messages'].get('GET_VRING_BASE', {}).get('answered', 0)
            for device in self.sim.stats('*'))
        if self._running() or answered != self.kind.vrings:
            raise HarnessError(
                f'stopped, and {self._running()} queues run; {answered} of '
                f'{self.kind.vrings} were asked')

    async def wait_started(self):
        """Until all queues run, and nothing goes on any more."""
        size, since = -1, 0.0

        def started() -> bool:
            nonlocal size, since
            now, grown = time.monotonic(), self.sim.log.stat().st_size
            if grown != size:
                size, since = grown, now
            if now < since + QUIET_S:
                return False
            since = now
            return not self._busy() and self._running() == self.kind.vrings
        await until(started, WAIT_S, f'{self.kind.vrings} queues to run')

    # -- turns

    async def stop(self) -> float:
        self.sim.order('reset *')
        start = time.monotonic()
        await self.vm.execute('stop')
        stop_ms = in_ms(start)
        self.check_stopped()
        return stop_ms

    async def start(self) -> tuple[float, float]:
        """See Turn."""
        offset, start = self.sim.log.stat().st_size, time.monotonic()
        await self.vm.execute('cont')
        cont_ms = in_ms(start)
        await self.wait_started()
        last = max((e.at for e in self.sim.entries(offset)), default=start)
        return cont_ms, max(cont_ms, in_ms(start, last))

    async def turn(self, variant: str, turn: int) -> Turn:
        if variant != STOCK:
            await self.vm.execute('migrate-set-capabilities', {
                'capabilities': [{'capability': 'parallel-vmstate-change',
                                  'state': variant == ON}]})
        cont_ms, start_ms = await self.start()
        await self.works()
        stop_ms = await self.stop()
        return Turn(self.kind, variant, turn, stop_ms, cont_ms, start_ms)


# ---- what a migration was like ----------------------------------------------

def silence_ms(source: Vm, destination: Vm) -> float:
    heart = Heart(source.serial, destination.serial)
    return heart.longest_gap(*heart.switchover())[1] * 1000


def device_start_ms(source: VhostSim, destination: VhostSim) -> float:
    """See MIGRATIONS; what a backend was told before is not in it."""
    stopped = max(e.at for e in source.entries()
                  if e.event == 'reply' and e.kind == 'GET_VRING_BASE')
    entries = [e for e in destination.entries() if e.at > stopped]
    first = min(e.at for e in entries if e.event == 'arrive')
    last = max(e.at for e in entries if e.event in ('forward', 'reply') and
               e.kind == 'SET_VRING_ENABLE')
    return in_ms(first, last)
