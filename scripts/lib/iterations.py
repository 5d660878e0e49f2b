# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a migration and its iterations, over time

A Timeline is fed with answers to query-migrate and with events, as they arrive
or out of a log, and says what can be concluded from them.  It does no I/O and
does not look at the clock: "now" is the time of what came last.

Times and durations are seconds unless the name has a unit.  Sizes are bytes.
"""

from dataclasses import dataclass
import re

NONE = 'none'
ENDED = ('completed', 'failed', 'cancelled')
POSTCOPY = re.compile('postcopy-(?!ready)')
RATE_OVER = 1.0         # seconds for which a rate is taken
# Of a migration that takes days, not each answer is kept: old ones get sparse.
SAMPLES_MAX = 4000
RECENT = 200
# A reader that is always a little late is no stall, and worth a word.
BUSY = 0.5

STALLED = 'MIGRATION_STALLED'


@dataclass
class Stall:
    """The channel took nothing from begin to end; end is None while it lasts.

    queued: bytes that QEMU had for it at that time
    """
    begin: float
    end: float | None
    phase: str
    queued: int

    def seconds(self, now: float) -> float:
        return (now if self.end is None else self.end) - self.begin


@dataclass(frozen=True)
class Sample:
    """An answer to query-migrate, and when it came."""
    at: float
    info: dict

    @property
    def status(self) -> str:
        return self.info.get('status', NONE)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def going_on(self) -> bool:
        return not self.ended and self.status != NONE

    @property
    def ram(self) -> dict:
        """Empty on the destination, and until the source knows."""
        return self.info.get('ram', {})

    @property
    def done(self) -> int:
        """Guest memory that was sent; a page of zeroes counts as well."""
        pages = self.ram.get('normal', 0) + self.ram.get('duplicate', 0)
        return pages * self.ram.get('page-size', 4096)

    @property
    def transferred(self) -> int:
        return self.ram.get('transferred', 0)

    @property
    def remaining(self) -> int:
        return self.ram.get('remaining', 0)

    @property
    def dirtied(self) -> int:
        """Guest memory that the guest writes to, per second."""
        if POSTCOPY.match(self.status):
            return 0
        return (self.ram.get('dirty-pages-rate', 0) *
                self.ram.get('page-size', 4096))

    @property
    def progress(self) -> float | None:
        """From 0 to 1, None if it cannot be told."""
        if self.status == 'completed':
            return 1.0
        whole = self.done + self.remaining
        return self.done / whole if whole else None

    @property
    def phase(self) -> str | None:
        return self.info.get('switchover', {}).get('phase')

    @property
    def iterations(self) -> dict:
        return self.info.get('iterations', {})

    def number(self, name: str) -> int:
        """One of the numbers in query-migrate's "iterations"."""
        return self.iterations.get(name, 0)

    @property
    def buckets(self) -> dict[int, int]:
        """Its histogram: counts by the least duration in us."""
        return {item['from-us']: item['count']
                for item in self.iterations.get('histogram', [])}


@dataclass(frozen=True)
class Interval:
    """What went on between two samples.

    mean_us: of the iterations that ended in it, None if none did
    bytes_s: that the channel took per second
    """
    begin: float
    end: float
    buckets: dict[int, int]
    mean_us: float | None
    bytes_s: float


def _interval(a: Sample, b: Sample) -> Interval:
    before, after = a.buckets, b.buckets
    buckets = {us: count - before.get(us, 0) for us, count in after.items()
               if count > before.get(us, 0)}
    return Interval(a.at, b.at, buckets, _mean_us(a, b, buckets),
                    max(0, b.transferred - a.transferred) / (b.at - a.at))


def _mean_us(a: Sample, b: Sample, buckets: dict[int, int]) -> float | None:
    """The mean of the iterations between two samples.

    The averages over all of them are whole numbers.  Among many iterations some
    new ones disappear in the rounding, but the histogram tells between which
    bounds their mean must be.
    """
    count = sum(buckets.values())
    if not count:
        return None
    total = (b.number('count') * b.number('avg-us') -
             a.number('count') * a.number('avg-us'))
    least = sum(us * n for us, n in buckets.items()) / count
    return min(max(total / count, least), 2 * least)


class Timeline:
    """All that came, in order.

    samples: answers to query-migrate, the first and the last always among them
    stalls: those that were reported
    """

    def __init__(self):
        self.samples: list[Sample] = []
        self.stalls: list[Stall] = []

    def add_answer(self, at: float, info: dict) -> Sample:
        sample = Sample(at, info)
        if self.samples and self._is_another(sample):
            # A stall that was reported since then belongs to the new one.
            self.stalls = [stall for stall in self.stalls
                           if stall.begin > self.last.at]
            self.samples.clear()
        self.samples.append(sample)
        if len(self.samples) > SAMPLES_MAX:
            # Each counts from the beginning, so nothing is lost but detail.
            self.samples = (self.samples[:-RECENT:2] +
                            self.samples[-RECENT:])
        if sample.ended:
            self._end_stall(at)
        return sample

    def _is_another(self, sample: Sample) -> bool:
        """Has a new migration begun?  What never decreases, did."""
        last = self.samples[-1]
        return not last.going_on and last.info != sample.info or \
            sample.number('count') < last.number('count')

    def add_event(self, at: float, name: str, data: dict) -> Stall | None:
        """The stall that begins or ends with it, if it is about one."""
        if name != STALLED:
            return None
        begin = at - data['blocked-ms'] / 1000
        if data['ended'] and self.stalled:
            return self._end_stall(at)
        stall = Stall(begin, at if data['ended'] else None, data['phase'],
                      data['bytes-queued'])
        self.stalls.append(stall)
        return stall

    def _end_stall(self, at: float) -> Stall | None:
        stall = self.stalled
        if stall:
            stall.end = at
        return stall

    @property
    def stalled(self) -> Stall | None:
        """The stall that lasts."""
        if self.stalls and self.stalls[-1].end is None:
            return self.stalls[-1]
        return None

    @property
    def last(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def _recent(self) -> tuple[Sample, Sample] | None:
        """The last sample and one about RATE_OVER before."""
        if len(self.samples) < 2:
            return None
        last = self.samples[-1]
        first = self.samples[-2]
        for sample in reversed(self.samples[:-1]):
            if last.at - sample.at > RATE_OVER:
                break
            first = sample
        return (first, last) if last.at > first.at else None

    def _rate(self, value) -> float | None:
        recent = self._recent()
        if not recent:
            return None
        first, last = recent
        return max(0, value(last) - value(first)) / (last.at - first.at)

    @property
    def bytes_s(self) -> float | None:
        """What the channel took per second, of late."""
        return self._rate(lambda sample: sample.transferred)

    @property
    def blocked(self) -> float | None:
        """The share of the time for which the channel was waited for."""
        rate = self._rate(lambda sample: sample.number('blocked-ms') / 1000)
        return None if rate is None else min(1, rate)

    @property
    def eta(self) -> float | None:
        """Seconds until memory is sent: infinite if more is dirtied than that.

        None if it cannot be told, as in a stall.
        """
        done_s = self._rate(lambda sample: sample.done)
        if not done_s or self.stalled or not self.last.going_on:
            return None
        net = done_s - self.last.dirtied
        return self.last.remaining / net if net > 0 else float('inf')

    def intervals(self, count: int | None = None) -> list[Interval]:
        """Between the samples, the last @count of them."""
        samples = self.samples[-count - 1:] if count else self.samples
        return [_interval(a, b) for a, b in zip(samples, samples[1:])
                if b.at > a.at]
