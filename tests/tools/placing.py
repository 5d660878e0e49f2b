# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests how switchover-report finds out when something happened

Each test makes up a truth, tells a part of it, as QEMU would, and looks whether what is
concluded contains the truth.
"""

from pathlib import Path
import random

from hostclock import OTHER, SAME, UNKNOWN, HostClock, Moment, Stamp
from phaselist import Fact, PhaseList
from tooltest import require

PHASES = [('quiesce', 20000), ('stop', 300), ('drain', 15000),
          ('device-stop', 900), ('save', 4000)]


def heard(rng: random.Random, at: float, offset: float) -> Stamp:
    """What is heard of an event @at on our clock, with another clock's stamp."""
    arrived = at + rng.uniform(0.0001, 0.02)
    return Stamp(after=at - rng.uniform(0.0005, 0.05), at=arrived,
                 sent=at + offset, wall=arrived)


def finds_the_clock_of_another_host(_directory: Path):
    """Whatever the clocks, the truth is within what is said, and that gets narrow.

    With the time of arrival taken for that of the event, moments miss the truth; with
    bounds not intersected, they stay as wide as a round trip.
    """
    for seed in range(50):
        rng = random.Random(seed)
        offset = rng.uniform(-1e6, 1e6)
        clock = HostClock(local=False)
        times = [rng.uniform(0, 100) for _ in range(40)]
        stamps = [heard(rng, at, offset) for at in times]
        for stamp in stamps:
            clock.add(stamp)
        require(clock.kind == OTHER, f'{clock.kind}')
        require(clock.ahead.low <= offset <= clock.ahead.high,
                f'{offset} is not in {clock.ahead}')
        require(clock.ahead.off < 0.01, f'uncertain: {clock.ahead.off}')
        for at, stamp in zip(times, stamps):
            moment = clock.moment(stamp)
            require(moment.low <= at <= moment.high, f'{at} not in {moment}')


def knows_its_own_clock(_directory: Path):
    """A unix socket whose stamps fit is our host's: exact; any other is not.

    With the fit not looked at, a forwarded socket is taken for our host's.
    """
    for local, offset, kind in ((True, 0, SAME), (True, 0.5, OTHER),
                                (False, 0, OTHER)):
        rng, clock = random.Random(1), HostClock(local)
        for at in range(1, 10):
            stamp = heard(rng, at, 1e9 + offset)
            clock.add(Stamp(stamp.after, stamp.at, stamp.sent,
                            1e9 + stamp.at))
        require(clock.kind == kind, f'{local} {offset}: {clock.kind}')


def distrusts_a_clock_that_was_set(_directory: Path):
    """A clock that jumps is not used: moments are when events arrived.

    With the contradiction ignored, moments lie outside of what is possible.
    """
    rng, clock = random.Random(2), HostClock(local=False)
    stamps = [heard(rng, at, 1000 if at < 5 else 1003) for at in range(10)]
    for stamp in stamps:
        clock.add(stamp)
    require(clock.kind == UNKNOWN and clock.ahead is None, clock.kind)
    for at, stamp in enumerate(stamps):
        moment = clock.moment(stamp)
        require(moment == stamp.bounds and moment.low <= at <= moment.high,
                f'{at}: {moment}')


def look(phases: PhaseList, asked: float, took: float, begin: float):
    """An answer, true for the middle of the time that it took."""
    at, done = begin, []
    for name, us in PHASES:
        if at + us / 1e6 > asked + took / 2:
            phases.look(asked, asked + took, {'phase': name, 'phases': done})
            return
        at += us / 1e6
        done.append({'phase': name, 'duration-us': us})
    phases.look(asked, asked + took, {'phase': 'handover', 'phases': done})


def began(name: str) -> float:
    """After how many seconds the phase began."""
    names = [phase for phase, _ in PHASES]
    return sum(us for _, us in PHASES[:names.index(name)]) / 1e6


def places_phases_where_they_were(_directory: Path):
    """With looks and events at random, the truth is within what is said.

    With the begin of a phase taken for its end, or an answer for one about the time
    of its question, the truth is outside, for some of the seeds.
    """
    for seed in range(200):
        rng = random.Random(seed)
        begin = rng.uniform(1, 9)
        phases = PhaseList(not_before=begin - rng.uniform(0, 0.1))
        asked = begin
        while asked < begin + 0.06:
            asked += rng.uniform(0.001, 0.04)
            look(phases, asked, rng.uniform(0, 0.005), begin)
        stopped = begin + began('stop') + rng.uniform(0, 300e-6)
        phases.facts = [
            Fact('SOURCE_STOPPED', 'stop', Moment.exactly(stopped)),
            Fact('STOP', 'device-stop', Moment.exactly(
                begin + began('device-stop') + rng.uniform(0, 900e-6))),
            Fact('completed', None, Moment.exactly(begin + 0.0402))]
        place, odd = phases.place()
        require(not odd, f'{seed}: {odd}')
        require(place.low <= begin <= place.high, f'{begin} not in {place}')
        require(place.off < 200e-6, f'uncertain: {place.off}')
        named = {phase.name: phase for phase in phases.placed()}
        require(abs(named['save'].begin.at - place.at - began('save')) < 1e-9
                and named['handover'].us is None, f'{named}')


def places_what_has_not_ended(_directory: Path):
    """Of a list that goes on, nothing is known about its end.

    With an event after all phases taken to be after those that have ended, it
    contradicts the rest, or the truth is outside.
    """
    phases = PhaseList(not_before=0.99)
    look(phases, 1.001, 0.001, 1)
    phases.facts = [Fact('completed', None, Moment.exactly(1.0004))]
    place, odd = phases.place()
    require(phases.current == 'quiesce' and not odd and
            place.low <= 1 <= place.high <= 1.002 + 1e-5, f'{place} {odd}')
    look(phases, 1.0202, 0.0001, 1)
    phases.facts = [Fact('completed', None, Moment.exactly(1.0199))]
    place, odd = phases.place()
    require(phases.current == 'stop' and not odd and
            place.low <= 1 <= place.high, f'{place} {odd}')


def names_what_contradicts(_directory: Path):
    """An event that cannot have been then is named, and moves nothing.

    With what contradicts taken in, the phases lie where no answer saw them.
    """
    phases = PhaseList(not_before=0.9)
    for asked in (1.01, 1.06):
        look(phases, asked, 0.001, 1)
    before, _ = phases.place()
    phases.facts = [Fact('STOP', 'device-stop', Moment.exactly(7))]
    after, odd = phases.place()
    require(odd == ['STOP'] and after == before, f'{odd} {before} {after}')


TESTS = [finds_the_clock_of_another_host, knows_its_own_clock,
         distrusts_a_clock_that_was_set, places_phases_where_they_were,
         places_what_has_not_ended, names_what_contradicts]
