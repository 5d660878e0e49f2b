# SPDX-License-Identifier: GPL-2.0-or-later
"""Where on the clock the phases of a switchover lie

query-migrate tells how long each phase of the last attempt took, to the
microsecond, but not when the first of them began.  So the list is a ruler
without a place.  What is known beside it:

- events that are sent in a certain phase, each of which must fall into it;
- answers, which say in which phase it was between question and answer.

Each of these allows the ruler some places; what all allow is where it is.  Its
length and the marks on it are exact, and one uncertainty, that of its place,
holds for all of its boundaries alike.
"""

from dataclasses import dataclass, field

from hostclock import Moment

# Durations are whole microseconds, rounded down.
ROUNDED_S = 10e-6
# In these phases the switchover is not under way yet, or is over.
RESTING = ('approach', 'handover', 'resume')
STOPPED = ('stop', 'device-stop', 'drain', 'save', 'hold', 'handover')


@dataclass(frozen=True)
class Fact:
    """Something that happened within a phase, or after the whole list.

    @phase: None means after all of them
    """
    what: str
    phase: str | None
    when: Moment


@dataclass
class Glance:
    """Answers that showed it after the same number of phases."""
    first_at: float
    last_asked: float


@dataclass(frozen=True)
class Phase:
    """One of the list, with its place; begin is None if nothing tells that.

    us: None if it has not ended, or nobody saw it end
    """
    name: str
    us: int | None
    begin: Moment | None

    @property
    def end(self) -> Moment | None:
        if self.begin is None or self.us is None:
            return None
        return self.begin.later(self.us / 1e6)


@dataclass
class PhaseList:
    """The phases of one attempt at the source, or of the destination.

    phases: names and durations in us of those that have ended
    current: the phase that it is in, or the one that it came to rest in
    not_before: it had not begun then
    sent_at: nor then, by what the other side says
    """
    phases: list[tuple[str, int]] = field(default_factory=list)
    current: str | None = None
    not_before: float = float('-inf')
    sent_at: float = float('-inf')
    facts: list[Fact] = field(default_factory=list)
    _glances: dict[int, Glance] = field(default_factory=dict)

    def look(self, asked: float, at: float, switchover: dict):
        """Take in what an answer says of it."""
        self.phases = [(item['phase'], item['duration-us'])
                       for item in switchover['phases']]
        self.current = switchover['phase']
        count = len(self.phases)
        glance = self._glances.setdefault(count, Glance(at, asked))
        glance.last_asked = asked

    @property
    def over(self) -> bool:
        return self.current in RESTING

    @property
    def known(self) -> bool:
        return bool(self._glances)

    def _before(self, count: int) -> float:
        """Seconds from the begin to the end of so many phases."""
        return sum(us for _, us in self.phases[:count]) / 1e6

    @property
    def total(self) -> float:
        return self._before(len(self.phases))

    def _span(self, name: str) -> tuple[float, float | None] | None:
        """From the first beginning of a phase to its last end, if it has ended."""
        indices = [i for i, (phase, _) in enumerate(self.phases)
                   if phase == name]
        if self.current == name and not self.over:
            return (self._before(indices[0]) if indices else self.total), None
        if not indices:
            return None
        return self._before(indices[0]), self._before(indices[-1] + 1)

    def _from_fact(self, fact: Fact) -> Moment | None:
        """Where the begin may be, for @fact to be true."""
        if fact.phase is None:
            if not self.over:
                return None
            return Moment(float('-inf'), fact.when.high - self.total)
        span = self._span(fact.phase)
        if not span:
            return None
        begin, end = span
        return Moment(float('-inf') if end is None else fact.when.low - end,
                      fact.when.high - begin)

    def _from_glances(self):
        for count, glance in self._glances.items():
            low = float('-inf')
            if count < len(self.phases):
                low = glance.last_asked - self._before(count + 1)
            yield 'answers', Moment(low, glance.first_at - self._before(count))

    def place(self) -> tuple[Moment | None, list[str]]:
        """When the first phase began, and what contradicts that.

        The answers come first: they depend on no clock but ours.
        """
        if not self.known:
            return None, []
        found = Moment(self.not_before, float('inf'))
        odd = []
        allowed = [*self._from_glances(),
                   *((fact.what, self._from_fact(fact)) for fact in self.facts),
                   ('the source', Moment(self.sent_at, float('inf')))]
        for what, moment in allowed:
            if not moment:
                continue
            wide = Moment(moment.low - ROUNDED_S, moment.high + ROUNDED_S)
            narrow = found.within(wide)
            if narrow:
                found = narrow
            else:
                odd.append(what)
        if found.high - found.low == float('inf'):
            return None, odd
        return found, odd

    def placed(self) -> list[Phase]:
        """All phases, with the one that it is in."""
        begin, _ = self.place()
        result = []
        for count, (name, us) in enumerate(self.phases):
            result.append(Phase(name, us, begin and
                                begin.later(self._before(count))))
        if self.current and self.current != 'approach':
            result.append(Phase(self.current, None,
                                begin and begin.later(self.total)))
        return result

    def begin_of(self, name: str) -> Moment | None:
        return next((phase.begin for phase in self.placed()
                     if phase.name == name), None)
