# SPDX-License-Identifier: GPL-2.0-or-later
"""One try of one cell, from boot to verdict"""

import asyncio
from dataclasses import asdict, dataclass, field
from pathlib import Path
import time

import cell as c
import limits
from faults import FAULTS, Fault
from netns import NetworkError
from phases import PHASES, Phase
from recover import recover
from scene import ENDS, Missed, Scene
from starved import Lateness
from vm import HarnessError, until

FAULT_S = 2.5                   # how long a fault lasts that is waited for
CALM_S = 0.3                    # of ordinary life before the migration
CANCEL_AFTER_S = 0.05           # in the fault
AFTERLIFE_BEATS = 20
ENDS_WITHIN_S = 40
NOBODY = 'nobody'


@dataclass
class Result:
    """What became of a try.

    seen: the phase in which the fault was seen to be there
    end: status of the migration at the source
    owner: who runs the guest at last; nobody, if its host has died
    reasons: what is wrong with it; good if there are none
    missed: the fault did not come when it was to come
    """
    cell: c.Cell
    features: list[str] = field(default_factory=list)
    seen: str = ''
    evidence: str = ''
    end: str = ''
    owner: str = ''
    states: dict[str, str] = field(default_factory=dict)
    verified: str = ''
    measures: list[limits.Measure] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    missed: str = ''
    seconds: float = 0
    events: list[dict] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.reasons and not self.missed

    @property
    def is_excused(self) -> bool:
        """Nothing is wrong but times, and the machine may be to blame."""
        exceeded = [m for m in self.measures if m.is_exceeded]
        return (not self.missed and len(exceeded) == len(self.reasons) > 0 and
                any(m.is_excused for m in exceeded))

    def measured(self, name: str) -> limits.Measure | None:
        return next((m for m in self.measures if m.name == name), None)

    def as_json(self) -> dict:
        data = asdict(self)
        data['good'] = self.is_good
        return data


class Trial:
    def __init__(self, cell: c.Cell, binary: Path, directory: Path,
                 lateness: Lateness):
        self.cell = cell
        self.scene = Scene(cell, binary, directory)
        self.lateness = lateness
        self.result = Result(cell)
        self.phase: Phase = None
        self.fault: Fault = None
        self.is_there = False

    async def run(self) -> Result:
        start = time.monotonic()
        try:
            async with self.scene:
                await self._guarded()
        except Missed as err:
            self.result.missed = str(err)
        except (HarnessError, NetworkError, asyncio.TimeoutError,
                OSError) as err:
            self.result.reasons.append(str(err) or repr(err))
        self.result.seconds = round(time.monotonic() - start, 1)
        return self.result

    async def _guarded(self):
        self.phase = PHASES[self.cell.phase](self.scene)
        self.fault = FAULTS[self.cell.fault](self.scene)
        self.result.features = sorted(self.scene.features)
        try:
            await self._play()
            await self._conclude()
        except HarnessError:
            self._measure()
            raise
        finally:
            await self._end_fault()
            self._keep_events()

    # -- the play

    async def _play(self):
        await asyncio.sleep(CALM_S)
        await self.phase.prepare()
        if self.fault.is_before:
            await self._begin_fault()
        await self.scene.migrate()
        await self.phase.reach()
        if not self.fault.is_before:
            await self._begin_fault()
        await self._confirm()
        if self.cell.action == c.CANCEL and self.cell.phase != c.ACTIVE:
            await self._cancel()
        else:
            await self._wait()

    async def _begin_fault(self):
        self.scene.note('fault')
        self.is_there = True
        await self.fault.begin()

    async def _end_fault(self):
        if self.is_there and self.fault.can_end:
            self.is_there = False
            await self.fault.end()
            self.scene.note('over')

    async def _confirm(self):
        """That the fault struck in the phase that it was meant for."""
        deadline = time.monotonic() + 1
        while not (evidence := await self.fault.evidence()):
            if time.monotonic() > deadline:
                raise Missed('the fault is not to be seen')
            await asyncio.sleep(0.001)
        seen = await self.phase.look()
        self.result.evidence, self.result.seen = evidence, seen
        if seen != self.cell.phase:
            if not self._has_effect(seen):
                raise Missed(f'the fault came in {seen}')
            self.result.seen = f'{self.cell.phase}, left'

    def _has_effect(self, seen: str) -> bool:
        """Has the fault itself ended the phase?

        Whoever is dead may have been noticed, and is not waited for.
        """
        if self.cell.fault == c.KILLED:
            return self.scene.ended_after(self.scene.at['fault'])
        return (self.cell.fault == c.BACKEND_KILLED and
                self.cell.phase == c.DEVICE_STOP and seen in (c.DRAIN, c.SAVE))

    async def _wait(self):
        scene = self.scene
        await self.phase.let_go()
        scene.note('let go')
        if self.cell.action == c.CANCEL:
            await self._be_refused()
        if not self.fault.can_end:
            await self._wait_for_failure()
            return
        await asyncio.sleep(max(0, scene.at['fault'] + FAULT_S -
                                time.monotonic()))
        if self.cell.fault == c.LINK and self.cell.phase == c.ACTIVE:
            await recover(scene, self._end_fault)
            scene.note('recovered')
        # A backend that connects in the middle of post-copy is not told by
        # QEMU 10.0 that pages are missing, and would fill them in itself.
        ends_late = (self.cell.fault == c.BACKEND_KILLED and
                     self.cell.phase == c.ACTIVE)
        if not ends_late:
            await self._end_fault()
        await self.phase.go_on()
        await self._until_end()
        if self.result.end == 'completed':
            await scene.destination.wait_event('RESUME', 30)

    async def _until_end(self):
        event = await until(self.scene.ended, ENDS_WITHIN_S,
                            'the migration to end')
        self.result.end = event.data['status']

    async def _wait_for_failure(self):
        """The destination is dead."""
        ends = ENDS | {'postcopy-paused'}
        event = await self.scene.source.wait_event(
            'MIGRATION', ENDS_WITHIN_S, lambda data: data['status'] in ends)
        self.scene.note('lost')
        self.result.end = event.data['status']

    # -- cancelling

    async def _be_refused(self):
        """In post-copy there is no way back: it has to have no effect."""
        self.scene.note('cancel')
        try:
            await self.scene.source.execute('migrate_cancel')
        except HarnessError:
            pass
        self._add_answer('migrate_cancel answered', limits.QMP_MS)

    def _add_answer(self, name: str, limit_ms: float, end: float = 0):
        start, end = self.scene.at['cancel'], end or time.monotonic()
        self.result.measures.append(limits.Measure(
            name, (end - start) * 1000, limit_ms, start, end))

    async def _cancel(self):
        scene = self.scene
        await asyncio.sleep(CANCEL_AFTER_S)
        scene.note('cancel')
        await asyncio.wait_for(scene.source.execute('migrate_cancel'), 30)
        self._add_answer('migrate_cancel answered', limits.QMP_MS)
        event = await until(scene.ended, ENDS_WITHIN_S, 'the cancel')
        self.result.end = event.data['status']
        if self.result.end == 'completed':
            raise Missed('the guest had been given away before the cancel')
        beat = await until(
            lambda: next((b for b in scene.source.serial.beats[-50:]
                          if b.at >= max(event.at, scene.at['cancel'])),
                         None),
            30, 'the guest to beat at the source')
        self._add_answer('migrate_cancel took effect', limits.CANCEL_MS,
                         beat.at)

    # -- the verdict

    def _fail(self, why: str):
        self.result.reasons.append(why)

    def _wanted(self) -> tuple[set[str], str]:
        """How it may end at the source, and who then has the guest."""
        if self.cell.fault == c.KILLED:
            if self.cell.phase == c.ACTIVE:
                return {'postcopy-paused'}, NOBODY
            return {'failed', 'cancelled'}, 'source'
        if self.cell.action == c.CANCEL and self.cell.phase != c.ACTIVE:
            return {'cancelled'}, 'source'
        return {'completed'}, 'destination'

    async def _conclude(self):
        await self._end_fault()
        if self.cell.action == c.CANCEL and self.cell.phase != c.ACTIVE:
            await self.phase.let_go()
        self.scene.gate.free()
        ends, owner = self._wanted()
        if self.result.end not in ends:
            self._fail(f'the migration has {self.result.end}: '
                       f'{await self._why()}')
        await self._find_owner(owner)
        if owner != NOBODY:
            await self._verify(owner)
        self._measure()
        self._look_at_guest()

    async def _why(self) -> str:
        info = await self.scene.source.execute('query-migrate')
        return info.get('error-desc', 'no reason given')

    async def _find_owner(self, wanted: str):
        scene = self.scene
        # It may be on its way: to the end of its process, or to run.
        with_beats = {'source': scene.source, 'destination': scene.destination}
        if wanted in with_beats:
            port = with_beats[wanted].serial
            since = len(port.beats)
            await until(lambda: len(port.beats) >= since + AFTERLIFE_BEATS, 30,
                        f'the guest to run at the {wanted}')
        states = {name: await scene.state_of(vm)
                  for name, vm in with_beats.items()}
        running = [name for name, state in states.items()
                   if state == 'running']
        self.result.states = states
        self.result.owner = ' and '.join(running) or NOBODY
        if self.result.owner != wanted:
            self._fail(f'run states are {states}, wanted is {wanted}')

    async def _verify(self, owner: str):
        vm = getattr(self.scene, owner)
        blocks = await vm.serial.command('verify', 60)
        self.result.verified = f'{blocks} blocks'
        if vm.serial.errors:
            self._fail(f'{vm.serial.errors} requests have failed')

    def _look_at_guest(self):
        for vm in self.scene.source, self.scene.destination:
            for text in vm.serial.panics():
                self._fail(f'the guest says: {text}')
        if self.result.owner != NOBODY:
            for text in self.scene.heart.irregular():
                self._fail(f'heartbeat {text}')

    def _outages(self) -> list[tuple[float, float]]:
        """When the destination could not answer, by what the fault is."""
        at = self.scene.at
        if self.cell.fault == c.KILLED:
            return [(at['fault'], float('inf'))]
        if self.cell.fault == c.PEER:
            return [(at['fault'], at.get('over', float('inf')))]
        if self.cell.fault == c.LINK and self.cell.phase == c.ACTIVE:
            # A guest that waits for a page has the BQL: as documented.
            return [(at['fault'], at.get('recovered', float('inf')))]
        return []

    def _measure(self):
        scene, result = self.scene, self.result
        if 'migrate' not in scene.at or 'fault' not in scene.at:
            return
        end = time.monotonic()
        if result.owner == NOBODY:
            end = scene.at['fault']
        result.measures += [
            limits.answer(scene.source, 'QMP at the source',
                          scene.at['migrate'], []),
            limits.answer(scene.destination, 'QMP at the destination',
                          scene.at['migrate'], self._outages())]
        if {'over', 'cancel', 'lost'} & set(scene.at):
            result.measures.append(limits.freeze(scene, end))
        for measure in result.measures:
            measure.look_for_blame(self.lateness, scene.delays)
            if measure.is_exceeded:
                self._fail(str(measure))

    def _keep_events(self):
        start = self.scene.at.get('migrate', 0)
        notes = [(at, 'cell', name, {}) for name, at in self.scene.at.items()]
        events = [(e.at, vm.name, e.name, e.data)
                  for vm in (self.scene.source, self.scene.destination)
                  for e in vm.events]
        self.result.events = [
            {'at': round(at - start, 4), 'who': who, 'event': name,
             'data': data} for at, who, name, data in
            sorted(notes + events, key=lambda item: item[0])]
