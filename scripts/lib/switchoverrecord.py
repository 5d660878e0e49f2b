# SPDX-License-Identifier: GPL-2.0-or-later
"""What two monitors said about a migration, put in order

A Recorder is fed with what arrives, or with a log of that, and knows for each
side which passes, quiesce windows, attempts and phases there were, and when.
It does no I/O and does not look at the clock.

What is fed, in the order in which it arrived; times are seconds since the
observer began:

    {"begun": DATE, "monotonic": S, "last": false, "sides": {
     "source": {"greeting": {...}, "members": [...], "local": true},
     "destination": ...}}
    {"side": ..., "asked": S, "at": S, "late": S, "query-migrate": {...}}
    {"side": ..., "at": S, "event": NAME, "data": {...}, "sent": S, "wall": S}
    {"side": ..., "at": S, "lost": REASON}
    {"side": ..., "asked": S, "at": S, "late": S, "unanswered": true}

The last is a question that was open when the observer ended.
"late" is for how long the observer itself did not get to run meanwhile.
"""

from dataclasses import dataclass, field

from hostclock import Moment
from phaselist import RESTING, STOPPED, Fact, PhaseList
from switchoverside import Side, Told

SOURCE, DESTINATION = 'source', 'destination'

PHASE_OF_EVENT = {
    SOURCE: {'MIGRATION_SOURCE_STOPPED': 'stop', 'STOP': 'device-stop'},
    DESTINATION: {'MIGRATION_POSTCOPY_READY': 'load', 'RESUME': 'device-start'},
}
PHASE_OF_STATUS = {'device': 'save', 'pre-switchover': 'save'}


@dataclass
class Attempt:
    """An attempt to switch over, as far as it was seen.

    phases: they may be of no attempt, if nobody asked in time
    stopped, timeout: the events of that name, if they came
    marks: events that fell into a phase of it; None is after all of them
    """
    number: int
    phases: PhaseList
    stopped: Told | None = None
    timeout: Told | None = None
    marks: list[tuple[str | None, Told]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.timeout is not None or self.phases.over


@dataclass
class Window:
    """A quiesce window, drawn from counters: its ends lie between two answers.

    us: how long it was, exactly; None if it is not known
    attempt: the number of the one that followed at once
    """
    begin: Moment
    end: Moment | None = None
    us: int | None = None
    hit: bool = False
    attempt: int | None = None

    def tighten(self):
        """Begin and end are as far apart as it was long."""
        if self.us is not None and self.end:
            seconds = self.us / 1e6
            begin = self.begin.within(self.end.later(-seconds)) or self.begin
            self.end = self.end.within(begin.later(seconds)) or self.end
            self.begin = begin


class Source(Side):
    """attempts: by number; windows: those that led to no attempt, too"""

    def __init__(self, name: str, about: dict, monotonic: float):
        super().__init__(name, about, monotonic)
        self.attempts: dict[int, Attempt] = {}
        self.windows: list[Window] = []
        self.windows_missed = 0
        self._counted = 0               # attempts, as of the last answer
        self._quiesce: dict = {}        # as of the last answer
        self._rested = 0.0      # question of the last answer without any phase

    def _forget(self):
        super()._forget()
        self.attempts.clear()

    @property
    def last_attempt(self) -> Attempt | None:
        return self.attempts[max(self.attempts)] if self.attempts else None

    def _attempt(self, number: int) -> Attempt:
        return self.attempts.setdefault(number, Attempt(number, PhaseList()))

    def take_event(self, told: Told):
        if told.name == 'MIGRATION_SOURCE_STOPPED':
            last = self.last_attempt
            if not last or last.over or last.stopped:
                last = self._attempt(
                    1 + max(self._counted, last.number if last else 0))
            last.stopped = told
        elif told.name == 'MIGRATION_DRAIN_TIMEOUT':
            self._attempt(told.data['attempt']).timeout = told
        self._mark(told)

    def _mark(self, told: Told):
        """Remember in which phase of the attempt it was."""
        last = self.last_attempt
        if not last:
            return
        phase = PHASE_OF_EVENT[SOURCE].get(told.name)
        if told.name == 'MIGRATION':
            if told.data['status'] == 'completed':
                last.marks.append((None, told))
                return
            phase = PHASE_OF_STATUS.get(told.data['status'])
        if phase and not last.over:
            last.marks.append((phase, told))
        if told.name == 'MIGRATION_DRAIN_TIMEOUT' and not any(
                mark.name == 'STOP' for _, mark in last.marks):
            # With the devices stopped, it comes before the end.
            last.marks.append((None, told))

    def take_answer(self, before, asked, at, info):
        switchover = info.get('switchover')
        if not switchover:
            return
        self._take_windows(before, at, switchover)
        names = [item['phase'] for item in switchover['phases']]
        if 'stop' in names or switchover['phase'] in STOPPED:
            attempt = self._attempt(switchover['attempts'])
            if not attempt.phases.known:
                attempt.phases.not_before = self._rested
            attempt.phases.look(asked, at, switchover)
        if switchover['phase'] in RESTING:
            self._rested = asked
        self._counted = switchover['attempts']

    def _take_windows(self, before: float, at: float, switchover: dict):
        quiesce = switchover['quiesce']
        between = Moment(before, at)
        if switchover['phase'] == 'quiesce':
            # It is counted shortly before the phase ends: wait for that.
            if not self._open_window():
                self.windows.append(Window(between))
            self._quiesce = self._quiesce or quiesce
            return
        more = quiesce['windows'] - self._quiesce.get('windows', 0)
        if more > 0 and self._quiesce:
            self._close(between, switchover)
            self.windows_missed += more - 1
        self._quiesce = quiesce

    def _open_window(self) -> Window | None:
        last = self.windows[-1] if self.windows else None
        return last if last and last.end is None else None

    def _close(self, between: Moment, switchover: dict):
        quiesce, phases = switchover['quiesce'], switchover['phases']
        window = self._open_window()
        if not window:
            window = Window(between)
            self.windows.append(window)
        window.end = between
        window.hit = quiesce['hits'] > self._quiesce['hits']
        if phases and phases[0]['phase'] == 'quiesce':
            window.us = phases[0]['duration-us']
            if switchover['attempts'] > self._counted:
                window.attempt = switchover['attempts']
        window.tighten()

    def settle(self):
        """Tell the lists of phases what the events say about their place."""
        for attempt in self.attempts.values():
            attempt.phases.facts = [
                Fact(told.data.get('status', told.name), phase,
                     self.moment(told)) for phase, told in attempt.marks]
        for window in self.windows:
            attempt = self.attempts.get(window.attempt)
            begin = attempt and attempt.phases.begin_of('quiesce')
            if begin:
                window.begin = begin
                window.end = begin.later(window.us / 1e6)


class Destination(Side):
    """phases: of the guest's arrival"""

    def __init__(self, name: str, about: dict, monotonic: float):
        super().__init__(name, about, monotonic)
        self.phases = PhaseList()
        self._marks: list[tuple[str, Told]] = []

    def _forget(self):
        super()._forget()
        self._marks.clear()

    def take_event(self, told: Told):
        phase = PHASE_OF_EVENT[DESTINATION].get(told.name)
        if phase:
            self._marks.append((phase, told))

    def take_answer(self, before, asked, at, info):
        switchover = info.get('switchover')
        if not switchover:
            return
        if not self.phases.known:
            self.phases.not_before = before
        self.phases.look(asked, at, switchover)

    def settle(self):
        self.phases.facts = [Fact(told.name, phase, self.moment(told))
                             for phase, told in self._marks]


class Recorder:
    """Both sides; destination is None if nobody watches it."""

    def __init__(self):
        self.source: Source | None = None
        self.destination: Destination | None = None
        self.begun = ''
        self.now = 0.0
        self._idle_too = False

    @property
    def sides(self) -> list[Side]:
        return [side for side in (self.source, self.destination) if side]

    def feed(self, item: dict):
        if 'sides' in item:
            self._head(item)
            return
        side = {SOURCE: self.source, DESTINATION: self.destination}[item['side']]
        self.now = max(self.now, item['at'])
        if 'query-migrate' in item:
            side.add_answer(item, self._idle_too)
        elif 'event' in item:
            side.add_event(item)
        elif 'lost' in item:
            side.lose(item['at'], item['lost'])
        elif 'unanswered' in item:
            side.leave_open(item)

    def _head(self, item: dict):
        self.begun = item['begun']
        self._idle_too = item.get('last', False)
        sides = item['sides']
        self.source = Source(SOURCE, sides[SOURCE], item['monotonic'])
        if DESTINATION in sides:
            self.destination = Destination(DESTINATION, sides[DESTINATION],
                                           item['monotonic'])

    def settle(self):
        """Bring what can be concluded up to date with what was fed."""
        self.source.settle()
        if not self.destination:
            return
        self.destination.settle()
        last = self.source.last_attempt
        save = last and last.phases.begin_of('save')
        if save:
            # What is loaded was sent before.
            self.destination.phases.sent_at = save.low

    # -- what follows from both

    @property
    def zero(self) -> float:
        """When the migration began, as far as it was seen."""
        source = self.source
        return min([source.clock.moment(stamp).at
                    for stamp, _ in source.statuses[:1]] +
                   [source.moment(told).at for told in source.events[:1]],
                   default=source.seen_from)

    def blackout(self) -> Moment | None:
        """How long the guest stood still, as bounds; after settle()."""
        last = self.source.last_attempt
        if not last or not self.destination:
            return None
        begin = last.phases.begin_of('stop')
        if not begin and last.stopped:
            begin = self.source.moment(last.stopped)
        end = self.destination.phases.begin_of('resume')
        if not begin or not end:
            return None
        return Moment(max(0, end.low - begin.high), end.high - begin.low)
