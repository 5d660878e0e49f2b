# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's way from process to process, and what has to hold after each step

Chain has the process that the guest lives in.  turn() starts another one, lets
the migration happen (drive.py, faults.py), and then looks whether everything is
as it has to be.  What is not raises Violation.
"""

import asyncio
from dataclasses import dataclass, field
import time

import bitmaps
from belongings import Belongings, Keeper
from cpuwait import CpuWaits
from drive import Drive
from faults import Faults
from plan import Turn
from rig import Rig, leave, look_for_reports, quit_vm
from vm import HarnessError, Heart, Vm, until

BEATS = 5                       # that make sure that the guest lives
PRECOPY_FAILURE = 1             # exit status of a destination


class Violation(HarnessError):
    """Something is not as it has to be."""


@dataclass(frozen=True)
class Limits:
    """Seconds; generous, about hanging rather than about speed.

    @silence: of the guest, beyond what the turn makes it wait
    @answer: of the monitor, likewise
    @cancel: until migrate_cancel has taken effect
    @turn: a migration
    @guest: an order to the guest
    @heap_kib: growth of a source's memory per turn
    """
    silence: float
    answer: float
    cancel: float
    turn: float
    guest: float
    heap_kib: float


# What malloc() keeps goes up and down by some hundred KiB.
ORDINARY = Limits(silence=2, answer=1, cancel=1, turn=90, guest=60,
                  heap_kib=192)
# What a sanitizer knows about each allocation stays; leaks it reports itself.
SANITIZED = Limits(silence=5, answer=3, cancel=3, turn=180, guest=120,
                   heap_kib=2048)


@dataclass
class Record:
    """What a turn came to; durations in seconds."""
    turn: Turn
    status: str = ''
    took: float = 0
    silence: float = 0
    answer: float = 0
    cancel: float | None = None
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    owner: str = ''
    counts: dict = field(default_factory=dict)
    verified: str = ''


def allowed_silence(turn: Turn, limits: Limits) -> float:
    """How long the guest may stand still at once

    It waits for the destination, if that is stopped in the middle of the
    switchover or has the guest; for a qcow2 image, whose header and bitmaps are
    written and read without a limit when it changes hands; for the word to
    continue; and in post-copy for its memory, until the migration is recovered.
    """
    allowed = limits.silence + turn.hold
    if turn.has('peer') or turn.has('disk') and turn.disk != 0:
        allowed += turn.lasts
    if turn.fault == 'drain-fail':
        allowed += limits.silence
    if turn.postcopy:
        allowed += limits.silence
    if turn.fault == 'recover':
        allowed += 20
    return allowed


def allowed_answer(turn: Turn, limits: Limits, destination: bool) -> float:
    """How long a monitor may be silent, see the end of the user's guide."""
    allowed = limits.answer
    if turn.has('disk') and turn.disk != 0:
        allowed += turn.lasts
    if turn.has('peer') and (destination or turn.kind == 'multifd'):
        allowed += turn.lasts
    if destination and turn.fault == 'recover':
        allowed += 20
    return allowed


class Chain:
    """Where the guest is.

    @breaks: what the soak is to notice (breaks.py), or None
    vm: the process
    keeper: watches it
    growth: KiB per turn, of each process that had enough turns
    """

    def __init__(self, rig: Rig, limits: Limits, breaks=None):
        self.rig = rig
        self.limits = limits
        self.breaks = breaks
        self.vm: Vm | None = None
        self.keeper: Keeper | None = None
        self.growth: list[float] = []
        self._boot: Belongings | None = None
        self._waits = CpuWaits()
        self._all: list[Vm] = []

    async def __aenter__(self):
        try:
            self.vm = await self._start(self.rig.vm())
            await self.vm.serial.ready(self.limits.guest)
            await bitmaps.create(self.vm)
            await self._adopt(self.vm)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        self._waits.stop()
        for vm in self._all:
            await vm.__aexit__()

    async def _start(self, vm: Vm) -> Vm:
        await vm.__aenter__()
        self._all.append(vm)
        return vm

    async def _adopt(self, vm: Vm):
        self.vm = vm
        if self.keeper and self.keeper.growth_kib is not None:
            self.growth.append(self.keeper.growth_kib)
        self.keeper = Keeper(vm.process, self.limits.heap_kib, self._boot)
        await self.keeper.check()
        self._boot = self._boot or self.keeper.first

    def _gone(self, vm: Vm):
        self._all.remove(vm)

    async def finish(self):
        """The last process ends like the others."""
        if self.keeper.growth_kib is not None:
            self.growth.append(self.keeper.growth_kib)
        await quit_vm(self.vm, self.limits.guest)
        self._gone(self.vm)

    def _last_words(self) -> list[str]:
        return [f'{vm.name} says: {vm.process.log_tail()}'
                for vm in self._all if vm.process.log_tail()]

    # -- a turn

    async def turn(self, turn: Turn) -> Record:
        """Migrate, and see."""
        record = Record(turn)
        try:
            async with asyncio.timeout(3 * self.limits.turn):
                await self._turn(turn, record)
        except HarnessError as err:
            raise Violation('\n'.join([str(err), *self._last_words()])) from err
        except TimeoutError:
            raise Violation('the turn did not end within '
                            f'{3 * self.limits.turn:g} s') from None
        return record

    async def _turn(self, turn: Turn, record: Record):
        source = self.vm
        destination = await self._start(
            self.rig.vm(source, shared=turn.shared))
        self._waits.watch(source, destination)
        faults = Faults(turn, self.rig, source, destination,
                        release=not self.breaks or self.breaks.releases(turn))
        drive = Drive(turn, self.rig, source, destination, faults)
        before = await bitmaps.counts(source, turn.clear)
        await source.serial.command(f'mode {turn.mode}', self.limits.guest)
        await drive.prepare()
        if self.breaks:
            await self.breaks.before(turn, self)
        try:
            await drive.run(self.limits.turn)
            await faults.finish()
        finally:
            record.status, record.done = drive.status, drive.done
            record.notes = faults.notes
            await faults.abandon()
        record.took = drive.ended - drive.began
        if drive.status not in turn.outcomes:
            raise Violation(f'it {drive.status}, not '
                            f'{" or ".join(turn.outcomes)}: '
                            f'{await self._reason(source)}')
        await self._look(drive, record, before)

    @staticmethod
    async def _reason(source: Vm) -> str:
        info = await source.execute('query-migrate')
        return info.get('error-desc', 'no reason given')

    async def _look(self, drive: Drive, record: Record, before: dict):
        """Is everything as it has to be?"""
        turn, faults = drive.turn, drive.faults
        source, destination = drive.source, drive.destination
        moved = drive.status == 'completed'
        owner = destination if moved else source
        if self.breaks:
            await self.breaks.after(turn, drive)
        await self._expect_one_owner(owner, source, destination)
        await self._expect_beats(owner)
        end = time.monotonic()
        heart = Heart(source.serial, destination.serial)
        self._note_times(drive, record, heart, end)
        self._expect_in_time(drive, record, heart, end)
        if moved:
            await until(lambda: any(
                e.name == 'MIGRATION' and e.data['status'] == 'completed'
                for e in destination.events), 20, 'the destination to complete')
            await bitmaps.check_left(source)
            await quit_vm(source, self.limits.guest)
        else:
            await self._end_destination(destination, faults.killed)
        self._gone(source if moved else destination)
        record.verified = await self._expect_whole(owner, heart)
        await bitmaps.check(owner, moved, turn.bitmaps, before)
        if moved:
            await self._adopt(owner)
        else:
            await self.keeper.check()
        record.owner = owner.name
        record.counts = self.keeper.last.counts()

    async def _expect_one_owner(self, owner: Vm, *both: Vm):
        deadline = time.monotonic() + 20
        while True:
            running = []
            for vm in both:
                try:
                    status = await vm.execute('query-status')
                except HarnessError:
                    if vm is owner:
                        raise
                    continue            # it may well end
                if status['running']:
                    running.append(vm.name)
            if running == [owner.name]:
                return
            if running or time.monotonic() > deadline:
                who = ' and '.join(running) or 'nobody'
                raise Violation(f'{who} has the guest, not {owner.name} alone')
            await asyncio.sleep(0.02)

    @staticmethod
    async def _expect_beats(owner: Vm):
        have = len(owner.serial.beats)
        await until(lambda: len(owner.serial.beats) >= have + BEATS, 20,
                    f'heartbeats from {owner.name}')

    async def _end_destination(self, vm: Vm, killed: bool):
        """It has no guest; most exit by themselves with an error."""
        if killed:
            await leave(vm, self.limits.guest, -9)
            return

        def active():
            return any(e.name == 'MIGRATION' and e.data['status'] != 'setup'
                       for e in vm.events)

        def may_be_asked():
            return not vm.process.running or not active() or \
                vm.events[-1].data.get('status') == 'postcopy-paused'
        if not may_be_asked():
            try:
                await until(may_be_asked, 5, f'{vm.name} to exit')
            except HarnessError:
                pass
        expected = PRECOPY_FAILURE
        vm.prober.stop()
        if vm.process.running:
            try:
                await vm.execute('quit', timeout=self.limits.guest)
                expected = 0
            except HarnessError:
                pass
        await leave(vm, self.limits.guest, expected)

    async def _expect_whole(self, owner: Vm, heart: Heart) -> str:
        """No beat, block or page was lost, nor had twice."""
        irregular = heart.irregular()
        if irregular:
            raise Violation(f'heartbeat {", ".join(irregular)}')
        verified = await owner.serial.command('verify', self.limits.guest)
        for port in heart.ports:
            if port.panics():
                raise Violation(f'the guest says: {port.panics()[0]}')
        errors = (await owner.serial.command('stats')).split()[1]
        if errors != '0':
            raise Violation(f'the guest had {errors} errors of its disks')
        report = look_for_reports(owner)
        if report:
            raise Violation(f'{owner.name}: {report}')
        return verified

    def _note_times(self, drive: Drive, record: Record, heart: Heart,
                    end: float):
        record.silence = heart.longest_gap(drive.began, end)[1]
        record.notes += self._waits.seen
        record.answer = max(vm.prober.worst(drive.began, end)
                            for vm in (drive.source, drive.destination))
        if drive.faults.cancelled_at and drive.status == 'cancelled':
            record.cancel = drive.ended - drive.faults.cancelled_at

    def _expect_in_time(self, drive: Drive, record: Record, heart: Heart,
                        end: float):
        """Times for which somebody had to wait for a CPU do not count."""
        turn, limits = drive.turn, self.limits
        both = (drive.source, drive.destination)
        at, silence = heart.longest_gap(drive.began, end)
        silence -= sum(self._waits.waited(vm, at, at + silence, True)
                       for vm in both)
        allowed = allowed_silence(turn, limits)
        if silence > allowed:
            raise Violation(f'the guest stood still for {record.silence:.2f} '
                            f's, at most {allowed:.2f} s were to be expected')
        for vm in both:
            for answer in vm.prober.answers:
                if answer.at > drive.began:
                    self._expect_answer(vm, answer, allowed_answer(
                        turn, limits, vm is drive.destination))
        if record.cancel:
            at = drive.faults.cancelled_at
            cancel = record.cancel - self._waits.waited(
                drive.source, at, at + record.cancel, False)
            if cancel > limits.cancel:
                raise Violation(f'migrate_cancel took {record.cancel:.2f} s')

    def _expect_answer(self, vm: Vm, answer, allowed: float):
        if answer.took < allowed:
            return
        waited = self._waits.waited(vm, answer.at - answer.took, answer.at,
                                    False)
        if answer.took - waited > allowed:
            raise Violation('\n'.join([
                f'the monitor of {vm.name} took {answer.took:.2f} s to answer '
                f'{answer.command}, {waited:.2f} s of which it waited for a '
                f'CPU; at most {allowed:.2f} s were to be expected',
                *self._waits.seen]))
