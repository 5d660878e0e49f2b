# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration as two monitors told it, for other programs

Times are seconds from the beginning of the migration, each with its uncertainty.
"""

from hostclock import Moment
from phaselist import Phase
from switchoverrecord import Attempt, Recorder, Source
from switchoverside import Side
from switchovertext import contradictions, missing, outcome, stopped_us


def when(moment: Moment | None, zero: float) -> dict | None:
    if moment is None:
        return None
    return {'at-s': round(moment.at - zero, 6), 'off-s': round(moment.off, 6)}


def phase(item: Phase, zero: float) -> dict:
    return {'phase': item.name, 'begin': when(item.begin, zero),
            'duration-us': item.us}


def attempt(source: Source, item: Attempt, zero: float) -> dict:
    _, odd = item.phases.place()
    return {'number': item.number, 'outcome': outcome(source, item),
            'stopped': when(item.stopped and source.moment(item.stopped), zero),
            'source-stopped-us': stopped_us(item),
            'phases': [phase(p, zero) for p in item.phases.placed()],
            'timeout': item.timeout.data if item.timeout else None,
            'contradictions': odd}


def clock(side: Side) -> dict:
    ahead = side.clock.ahead
    return {'kind': side.clock.kind, 'events': side.clock.events,
            'ahead-s': ahead and round(ahead.at, 6),
            'off-s': ahead and round(ahead.off, 6)}


def of_side(side: Side, zero: float) -> dict:
    found = {
        'status': side.status, 'qemu': side.version.get('qemu'),
        'patched': side.patched, 'clock': clock(side),
        'statuses': [{'status': status,
                      **when(side.clock.moment(stamp), zero)}
                     for stamp, status in side.statuses],
        'events': [{'event': told.name, 'data': told.data,
                    **when(side.moment(told), zero)} for told in side.events],
        'silences': [{'begin-s': round(s.begin - zero, 6),
                      'end-s': round(s.end - zero, 6),
                      'seconds': round(s.seconds, 6)} for s in side.silences],
        'lost': side.lost and side.lost[1],
    }
    for name in ('error-desc', 'total-time', 'downtime', 'iterations',
                 'switchover', 'ram'):
        if name in side.info:
            found[name] = side.info[name]
    return found


def as_json(recorder: Recorder) -> dict:
    """After recorder.settle()."""
    source, zero = recorder.source, recorder.zero
    still = recorder.blackout()
    result = {
        'watched-since': recorder.begun,
        'status': source.status,
        'guest-stopped': still and {'ms': round(still.at * 1000, 3),
                                    'off-ms': round(still.off * 1000, 3)},
        'source': of_side(source, zero),
        'attempts': [attempt(source, source.attempts[number], zero)
                     for number in sorted(source.attempts)],
        'windows': [{'begin': when(w.begin, zero), 'end': when(w.end, zero),
                     'duration-us': w.us, 'hit': w.hit}
                    for w in source.windows],
        'windows-missed': source.windows_missed,
        'destination': None,
        'not-known': missing(recorder),
        'contradictions': contradictions(recorder),
    }
    if recorder.destination:
        there = recorder.destination
        result['destination'] = of_side(there, zero)
        result['destination']['phases'] = [phase(p, zero)
                                           for p in there.phases.placed()]
    return result
