# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU of a migration, as far as source and destination are alike

See switchoverrecord.py for what it is fed with.
"""

from dataclasses import dataclass

from hostclock import HostClock, Moment, Stamp
from iterations import ENDED, NONE, Sample, Timeline

# Longer than any monitor should need for an answer.
SILENT_S = 0.1
# Of events that have nothing to do with us, not all are kept.
OTHERS_MAX = 500


@dataclass(frozen=True)
class Told:
    """An event."""
    name: str
    data: dict
    stamp: Stamp


@dataclass(frozen=True)
class Silence:
    """The monitor owed an answer from begin to end.

    seconds: how long that was, less the time for which we did not run
    """
    begin: float
    end: float
    seconds: float


def silence_of(item: dict) -> Silence | None:
    """If the monitor took too long for this answer."""
    seconds = item['at'] - item['asked'] - item.get('late', 0)
    return Silence(item['asked'], item['at'], seconds) \
        if seconds > SILENT_S else None


class Side:
    """One QEMU.

    events: all of this migration
    statuses: when each was reached
    timeline: its answers, as iterations.py knows them
    lost: why there is no more to come, and when
    unanswered: the last question, if we ended before it was answered
    """

    def __init__(self, name: str, about: dict, monotonic: float):
        self.name = name
        self.members = set(about['members'])
        self.local = bool(about['local'])
        self.version = about.get('greeting', {}).get('version', {})
        self.clock = HostClock(self.local)
        self.events: list[Told] = []
        self.others = 0
        self.statuses: list[tuple[Stamp, str]] = []
        self.timeline = Timeline()
        self.silences: list[Silence] = []
        self.lost: tuple[float, str] | None = None
        self.unanswered: Silence | None = None
        self.begun = False
        self.seen_from = 0.0            # of the migration, at least
        self._baseline: dict | None = None
        self._monotonic = monotonic
        self._asked = 0.0               # the last question that was answered

    # -- feeding

    def add_event(self, item: dict):
        stamp = Stamp(self._asked, item['at'], item.get('sent', 0),
                      item.get('wall', 0))
        told = Told(item['event'], item['data'], stamp)
        self.clock.add(stamp)
        if not self._worth_keeping(told):
            return
        self.events.append(told)
        if told.name == 'MIGRATION':
            self._reach(told.data['status'], stamp)
        self.timeline.add_event(item['at'], told.name, told.data)
        self.take_event(told)

    def _worth_keeping(self, told: Told) -> bool:
        if told.name in ('STOP', 'RESUME') or told.name.startswith('MIGRATION'):
            return True
        self.others += 1
        return self.others <= OTHERS_MAX

    def _reach(self, status: str, stamp: Stamp):
        if not self.statuses or self.statuses[-1][1] != status:
            self.statuses.append((stamp, status))

    def add_answer(self, item: dict, idle_too: bool):
        """@idle_too: take in a migration that has ended before, too."""
        asked, at, info = item['asked'], item['at'], item['query-migrate']
        sample = Sample(at, info)
        before, self._asked = self._asked, asked
        silence = silence_of(item)
        if silence:
            self.silences.append(silence)
        if not self.begun and not self._begins(sample, idle_too):
            self._baseline = info
            self._forget()
            return
        if not self.begun:
            self.begun = True
            self.seen_from = before
        self.timeline.add_answer(at, info)
        # An event tells better when, and may have overtaken the answer.
        if not self.statuses or self.statuses[-1][0].at < asked:
            self._reach(sample.status, Stamp(before, at, 0, 0))
        self.take_answer(before, asked, at, info)

    def _begins(self, sample: Sample, idle_too: bool) -> bool:
        """Is this an answer about the migration that is to be watched?"""
        if sample.going_on:
            return True
        if sample.status == NONE:
            return False
        if self._baseline is None:
            return idle_too
        return sample.info != self._baseline

    def _forget(self):
        """What came before there was a migration is of no interest."""
        self.events.clear()
        self.statuses.clear()
        self.silences.clear()
        self.others = 0

    def lose(self, at: float, reason: str):
        self.lost = (at, reason)

    def leave_open(self, item: dict):
        """A question that nobody waits for any longer."""
        silence = silence_of(item)
        if silence:
            self.silences.append(silence)
            self.unanswered = silence

    def take_event(self, told: Told):
        """For the sides, which know what it means."""

    def take_answer(self, before: float, asked: float, at: float, info: dict):
        """For the sides; @before: when the last answer was asked for"""

    # -- what is known

    @property
    def status(self) -> str:
        return self.statuses[-1][1] if self.statuses else NONE

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def patched(self) -> bool:
        return 'switchover' in self.members

    @property
    def info(self) -> dict:
        """The last answer."""
        return self.timeline.last.info if self.timeline.last else {}

    def moment(self, told: Told) -> Moment:
        if 'time-us' in told.data:
            return self.clock.monotonic(told.stamp, told.data['time-us'],
                                        self._monotonic)
        return self.clock.moment(told.stamp)

    def named(self, name: str) -> list[Told]:
        return [told for told in self.events if told.name == name]

    def has_status_events(self) -> bool:
        return bool(self.named('MIGRATION')) or len(self.statuses) < 2
