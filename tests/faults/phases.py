# SPDX-License-Identifier: GPL-2.0-or-later
"""How a phase is made to last, entered, and left again

What makes a phase last is not the fault: it is the cell's anchor, and is taken
away when the fault is there (let_go()), or when it is over (go_on()).

phase             made to last by                            known by
approach          little bandwidth                           query-migrate
quiesce           requests that take 400 ms, window 1000 ms  query-migrate
stop              a write that hangs, drain-timeout          the event
device-stop       a backend that takes 150 ms per ring       query-migrate
drain             a write that hangs, drain-timeout          query-migrate
save              pause-before-switchover, a slow cable      query-migrate
hold              nobody continues                           query-migrate
post-copy active  little bandwidth                           status

The BQL is held in stop, so no query-migrate can see it: what tells is that
MIGRATION_SOURCE_STOPPED has come and the attempt is not over.
"""

import asyncio
import time

import cell as c
from scene import BANDWIDTH, NO_LIMIT, RATE, Missed, Scene
from vm import until

APPROACH_BANDWIDTH = 8 << 20
POSTCOPY_BANDWIDTH = 2 << 20
LATENCY_MS = 400
RING_US = 150000
SLOW_RATE, SLOW_BURST = '400kbit', '3kb'
STATUS = {c.ACTIVE: 'postcopy-active'}


class Phase:
    """Made to last by nothing."""

    def __init__(self, scene: Scene):
        self.scene = scene

    async def prepare(self):
        """Before the migration."""

    async def reach(self):
        """From the begin of the migration until it is in the phase."""
        await self.scene.until_phase(self.scene.cell.phase)

    async def look(self) -> str:
        """Where it is now, in the words of the matrix."""
        status, phase, _ = await self.scene.look()
        if status == STATUS[c.ACTIVE]:
            return c.ACTIVE
        return phase or status

    async def let_go(self):
        """The fault is there and seen: nothing else shall keep the phase."""

    async def go_on(self):
        """The fault is over: migrate to the end."""


class Approach(Phase):
    async def prepare(self):
        await self.scene.set(max_bandwidth=APPROACH_BANDWIDTH)

    async def reach(self):
        # Before that, backends are told to log what they write.
        await self.scene.until_status('active')
        await super().reach()

    async def let_go(self):
        await self.scene.set(max_bandwidth=BANDWIDTH)


class Quiesce(Phase):
    async def prepare(self):
        # Requests that all take as long are in step, so all of one kind.
        if self.scene.cell.fault == c.READ:
            await self.scene.source.serial.command('mode read')
        self.scene.gate.latency(LATENCY_MS, 'read', 'write')

    async def go_on(self):
        self.scene.gate.free()


class Drain(Phase):
    """A write is held, unless something else is."""

    async def prepare(self):
        if self.scene.cell.fault != c.READ:
            self.scene.gate.hold('write')

    async def let_go(self):
        self.scene.gate.free('write')


class Stop(Drain):
    async def reach(self):
        scene, seen = self.scene, 0
        deadline = time.monotonic() + 30
        while not (stops := [e for e in scene.source.events[seen:]
                             if e.name == 'MIGRATION_SOURCE_STOPPED']):
            seen = len(scene.source.events)
            if scene.ended() or time.monotonic() > deadline:
                raise Missed('no MIGRATION_SOURCE_STOPPED')
            await asyncio.sleep(0.0005)
        self.stopped = stops[-1]

    async def look(self) -> str:
        """The first look after the stop may find what comes after it."""
        seen = await super().look()
        if seen in (c.DRAIN, c.DEVICE_STOP):
            later = [e.name for e in self.scene.source.events
                     if e.at > self.stopped.at]
            if not {'MIGRATION_DRAIN_TIMEOUT', 'RESUME'} & set(later):
                return c.STOP
        return seen


class DeviceStop(Phase):
    def _order(self, latency: str):
        self.scene.sims[self.scene.source].order(f'latency nic0 {latency}')

    async def prepare(self):
        self._order(f'serial GET_VRING_BASE:{RING_US}')

    async def reach(self):
        await super().reach()
        # One that is dead is not waited for: so that there is time to cancel.
        if self.scene.cell.fault == c.BACKEND_KILLED:
            self.scene.cable.a.set_rate(SLOW_RATE, SLOW_BURST)

    async def let_go(self):
        if self.scene.cell.fault == c.BACKEND_KILLED:
            self.scene.cable.a.set_rate(RATE)
        # One that is stopped does not obey, and one that is dead neither.
        if self.scene.cell.fault not in c.BACKEND_FAULTS:
            await asyncio.to_thread(self._order, 'off')


class Save(Phase):
    """The guest is stopped, management has its turn, the cable gets slow."""

    async def reach(self):
        scene = self.scene
        await scene.until_status('pre-switchover')
        if scene.cell.fault == c.PIPE:
            scene.note('fault')
            scene.reader.stop()
        else:
            scene.cable.a.set_rate(SLOW_RATE, SLOW_BURST)
        await scene.source.execute('migrate-continue',
                                   {'state': 'pre-switchover'})
        await scene.until_phase(c.SAVE)

    async def let_go(self):
        if self.scene.cable:
            self.scene.cable.a.set_rate(RATE)


class Hold(Phase):
    async def reach(self):
        scene = self.scene
        await scene.until_status('active')
        await scene.source.execute('migrate-start-postcopy')
        await scene.source.wait_event('MIGRATION_POSTCOPY_READY', 30)
        await scene.until_phase(c.HOLD)

    async def go_on(self):
        self.scene.note('commit')
        await self.scene.source.execute('migrate-continue',
                                        {'state': 'postcopy-ready'})


class Active(Hold):
    async def prepare(self):
        await self.scene.set(max_postcopy_bandwidth=POSTCOPY_BANDWIDTH)

    async def reach(self):
        scene = self.scene
        if c.READY in scene.features:
            await super().reach()
            await super().go_on()
        else:
            await scene.until_status('active')
            await scene.source.execute('migrate-start-postcopy')
        await scene.until_status('postcopy-active')
        # Without postcopy-ready the source says so before there is a guest,
        # and RESUME is said before its devices are started.
        beats = scene.destination.serial.beats
        await until(lambda: beats, 30, 'the guest to run at the destination')

    async def go_on(self):
        await self.scene.set(max_postcopy_bandwidth=NO_LIMIT)


PHASES = {c.APPROACH: Approach, c.QUIESCE: Quiesce, c.STOP: Stop,
          c.DEVICE_STOP: DeviceStop, c.DRAIN: Drain, c.SAVE: Save,
          c.HOLD: Hold, c.ACTIVE: Active}
