# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell may take, and whether the machine is to blame if it took longer

QMP answers     100 ms, always, on either side; except while the process itself
                is stopped or dead, which is the fault
migrate_cancel  500 ms until the migration is cancelled and the guest beats
guest silent    the sum of freeze_parts()

A limit that was exceeded counts, unless the machine kept processes waiting at
the same time, for half of the excess or more (see starved.py).  Then the cell
is repeated: no limit is ever higher than it says here.
"""

from dataclasses import dataclass, field
import time

import cell as c
from scene import DRAIN_TIMEOUT_MS, Scene
from starved import Lateness, RunDelay
from vm import Vm

QMP_MS = 100
CANCEL_MS = 500
# The rest of the memory (downtime-limit, 100 ms), the state of the devices,
# loading it, starting the guest: emulated, two QEMUs on two CPUs.
NEEDS_MS = 300
BLAME = 0.5


@dataclass
class Measure:
    """Something that was timed; @start, @end: when, on the monotonic clock.

    @starved_ms: how long processes were kept waiting for a CPU meanwhile
    """
    name: str
    ms: float
    limit_ms: float
    start: float
    end: float
    parts: dict[str, float] = field(default_factory=dict)
    starved_ms: float = 0

    @property
    def is_exceeded(self) -> bool:
        return self.ms > self.limit_ms

    def look_for_blame(self, lateness: Lateness, delays: list[RunDelay]):
        self.starved_ms = 1000 * max(
            witness.total(self.start, self.end)
            for witness in [lateness, *delays])

    @property
    def is_excused(self) -> bool:
        """It may have been the machine."""
        excess = self.ms - self.limit_ms
        return self.is_exceeded and self.starved_ms >= BLAME * excess

    def __str__(self) -> str:
        text = f'{self.name}: {self.ms:.0f} ms, limit {self.limit_ms:.0f} ms'
        if len(self.parts) > 1:
            text += ' (' + ', '.join(f'{name} {ms:.0f}' for name, ms in
                                     self.parts.items()) + ')'
        return text


def answer(vm: Vm, name: str, start: float,
           outages: list[tuple[float, float]]) -> Measure:
    """The monitor's longest answer, but for those that an outage touched."""
    worst = Measure(name, 0, QMP_MS, start, start)

    def take(asked: float, answered: float):
        if not any(asked < b and answered > a for a, b in outages):
            took = (answered - asked) * 1000
            if took > worst.ms:
                worst.ms, worst.start, worst.end = took, asked, answered
    for one in list(vm.prober.answers):
        if one.at >= start:
            take(one.at - one.took, one.at)
    if vm.process.running:
        now = time.monotonic()
        take(now - vm.prober.waiting(), now)
    return worst


def stood_still(scene: Scene) -> float:
    """When the guest was stopped first; or when the fault came."""
    stops = [e.at for e in scene.source.events
             if e.name == 'MIGRATION_SOURCE_STOPPED' or
             e.name == 'MIGRATION' and e.data['status'] == 'pre-switchover']
    return min(stops, default=scene.at['fault'])


def _ended(scene: Scene, *names: str) -> float:
    """The first of these that happened, or now."""
    return min((scene.at[name] for name in names if name in scene.at),
               default=time.monotonic())


def freeze_parts(scene: Scene) -> dict[str, float]:
    """What a guest may be silent for, in ms, by reason.

    phase                        parts
    approach, quiesce            needs, drain-timeout
    stop, drain, device-stop     needs, drain-timeout, channel
    save                         needs, drain-timeout, anchor
    hold                         needs, drain-timeout, held, TCP
    post-copy active             needs, drain-timeout, channel

    drain-timeout  if it is set: what the stopped guest waits for its disks
    channel        if the fault is one of the channel, it lasts as long as the
                   fault, or until the cancel: the guest is stopped, and what
                   it needs is on the other side.  In approach and quiesce it
                   is not stopped as long as the channel takes nothing.  In
                   post-copy it waits for pages that are in the channel, also
                   if there is another one for pages that are asked for.
    anchor         what made the phase last: management's turn and a slow
                   channel, until it was fast again, or until the cancel
    held           until somebody decided
    TCP            a sender that got no answer tries again after as long again
    """
    cell, at = scene.cell, scene.at
    parts = {'needs': NEEDS_MS}
    if c.DRAIN_TIMEOUT in scene.features:
        parts['drain-timeout'] = DRAIN_TIMEOUT_MS
    is_channel = cell.fault in c.CHANNEL_FAULTS
    fault_ms = (_ended(scene, 'over', 'lost') - at['fault']) * 1000
    if cell.phase == c.SAVE:
        over = 'over' if is_channel else 'let go'
        end = _ended(scene, over, 'cancel', 'lost')
        parts['anchor'] = (end - stood_still(scene)) * 1000
    elif cell.phase == c.HOLD:
        end = _ended(scene, 'commit', 'cancel', 'lost')
        parts['held'] = (end - stood_still(scene)) * 1000
    elif cell.phase == c.ACTIVE:
        if is_channel:
            parts['channel'] = fault_ms
    elif is_channel and cell.phase in (c.STOP, c.DRAIN, c.DEVICE_STOP):
        end = _ended(scene, 'over', 'cancel')
        parts['channel'] = (end - at['fault']) * 1000
    if (cell.fault == c.LINK and cell.action == c.WAIT and
            cell.phase in (c.STOP, c.DRAIN, c.DEVICE_STOP, c.SAVE, c.HOLD)):
        parts['TCP'] = fault_ms
    return parts


def freeze(scene: Scene, end: float) -> Measure:
    """The guest's longest silence from the migration's begin on."""
    start, length = scene.heart.longest_gap(scene.at['migrate'], end)
    parts = freeze_parts(scene)
    return Measure('guest silent', length * 1000, sum(parts.values()), start,
                   start + length, parts)
