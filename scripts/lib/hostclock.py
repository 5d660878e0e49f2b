# SPDX-License-Identifier: GPL-2.0-or-later
"""When something happened in a QEMU, on our own clock

A QEMU stamps its events with the wall clock of its host.  That may be our own
clock, or another one that is off by nobody knows how much, so what is known of it
comes from cause and effect alone:

- an event was sent before it arrived;
- one that arrived after an answer was sent after the question to that answer:
  a monitor does not reorder what it says.

Each event gives bounds for the difference of the clocks, and all of them together
narrow ones.  A moment is therefore an interval, and nobody gets to see its middle
without its width.

If the monitor is a unix socket, and our own clock fits into all of these bounds,
then it is taken for the same clock, and the moment is exact.

Times are seconds on the observer's clock (monotonic, 0 where it begins), unless
they are stamps: seconds of a wall clock.
"""

from dataclasses import dataclass

# An event is stamped a little before it gets its place among the answers.
SLACK_S = 0.002
# The wall clock is adjusted in small steps while it runs.
STEP_S = 0.005

SAME, OTHER, UNKNOWN = 'same', 'other', 'unknown'


@dataclass(frozen=True)
class Moment:
    """Some time from low to high."""
    low: float
    high: float

    @classmethod
    def exactly(cls, at: float) -> 'Moment':
        return cls(at, at)

    @property
    def at(self) -> float:
        """Its middle: wrong by @off at most."""
        return (self.low + self.high) / 2

    @property
    def off(self) -> float:
        return (self.high - self.low) / 2

    def later(self, seconds: float) -> 'Moment':
        return Moment(self.low + seconds, self.high + seconds)

    def within(self, other: 'Moment') -> 'Moment | None':
        """What both allow; None if they contradict each other."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Moment(low, high) if low <= high else None


@dataclass(frozen=True)
class Stamp:
    """An event's times.

    @after: when we asked for the last answer that came before it
    @at: when it arrived
    @sent: QEMU's stamp, 0 if it has none
    @wall: of our own wall clock when it arrived
    """
    after: float
    at: float
    sent: float
    wall: float

    @property
    def bounds(self) -> Moment:
        """What is known without any clock of QEMU's."""
        return Moment(min(self.after, self.at), self.at)

    @property
    def if_ours(self) -> float:
        """When it was sent, if QEMU's clock is ours."""
        return self.sent + self.at - self.wall


class HostClock:
    """The clock of one QEMU's host.

    @local: its monitor is a unix socket
    """

    def __init__(self, local: bool):
        self.local = local
        self.events = 0
        # To add to a stamp, for our own time
        self._offset: Moment | None = None
        self._wall = 0.0        # of ours when our own time was 0
        self._contradicts = False
        self._ours = local

    def add(self, stamp: Stamp):
        """Learn from an event."""
        if not stamp.sent:
            return
        self.events += 1
        self._wall = stamp.wall - stamp.at
        bounds = stamp.bounds
        if not bounds.low - STEP_S <= stamp.if_ours <= bounds.high + STEP_S:
            self._ours = False
        new = Moment(bounds.low - SLACK_S - stamp.sent, bounds.high - stamp.sent)
        narrow = self._offset.within(new) if self._offset else new
        if narrow:
            self._offset = narrow
        else:
            # It was set, or it drifts, while we looked at it.
            self._contradicts = True

    @property
    def kind(self) -> str:
        if not self.events:
            return UNKNOWN
        if self._ours:
            return SAME
        return UNKNOWN if self._contradicts else OTHER

    @property
    def ahead(self) -> Moment | None:
        """By how much another host's clock is ahead of our wall clock."""
        if self.kind != OTHER:
            return None
        return Moment(-self._offset.high - self._wall,
                      -self._offset.low - self._wall)

    def moment(self, stamp: Stamp) -> Moment:
        """When the event was sent; better asked when all are known."""
        bounds = stamp.bounds
        if not stamp.sent or self.kind == UNKNOWN:
            return bounds
        if self.kind == SAME:
            return Moment.exactly(stamp.if_ours)
        told = Moment(stamp.sent + self._offset.low,
                      stamp.sent + self._offset.high)
        return told.within(bounds) or bounds

    def monotonic(self, stamp: Stamp, time_us: int, begun: float) -> Moment:
        """The same for an event that tells its host's monotonic time as well.

        That clock is ours, if it fits; it is never set.
        @begun: what our monotonic clock showed when we began
        """
        at = time_us / 1e6 - begun
        bounds = stamp.bounds
        if self.local and bounds.low - SLACK_S <= at <= bounds.high + SLACK_S:
            return Moment.exactly(at)
        return self.moment(stamp)
