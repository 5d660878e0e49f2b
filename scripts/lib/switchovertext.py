# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration as two monitors told it, as lines of text at the end"""

from eventwords import describe, describe_timeout
from histogram import duration
from hostclock import OTHER, SAME, Moment
from iterationview import seconds, size
from phaselist import Phase
from switchoverrecord import (DESTINATION, SOURCE, Attempt, Recorder,
                              Source, Window)
from switchoverside import Side
from term import table

# Passes of a migration that does not converge are not all of interest.
PASSES_SHOWN = 12
ATTEMPTS_SHOWN = 20


def milliseconds(value: float) -> str:
    """@value seconds in ms, as exact as it makes sense."""
    value *= 1000
    return f'{value:.{0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2}f}'


def off(moment: Moment) -> str:
    """The uncertainty, for a column."""
    if moment.off < 5e-6:
        return 'exact'
    return '+-' + duration(moment.off * 1e6)


def qemu_version(side: Side) -> str:
    qemu = side.version.get('qemu', {})
    number = '.'.join(str(qemu[part]) for part in ('major', 'minor', 'micro')
                      if part in qemu)
    return f'QEMU {number or "of an unknown version"}' + \
        ('' if side.patched else ', unpatched')


# ---- what is known, and what is not ------------------------------------------

def clock_words(side: Side) -> str:
    clock = side.clock
    if clock.kind == SAME:
        return f"this host's, as {clock.events} events agree with it"
    if clock.kind == OTHER:
        return (f'another one, {milliseconds(clock.ahead.at)} ms ahead of ours, '
                f'+-{duration(clock.ahead.off * 1e6)} ({clock.events} events)')
    if clock.events:
        return ('not comparable with ours: it was set, or drifts.  Times are when '
                'events arrived')
    return 'unknown: there were no events.  Times are when answers came'


def missing(recorder: Recorder) -> list[str]:
    """What would belong here and is not known, and why."""
    found = []
    for side in recorder.sides:
        found += missing_of(side)
    if not recorder.destination:
        found.append('destination: not watched, so there is no word about when '
                     'the guest ran again')
    else:
        found += missing_there(recorder)
    found += missing_attempts(recorder.source)
    return found


def missing_of(side: Side) -> list[str]:
    found = []
    if not side.patched:
        what = 'phases, attempts and windows are' if side.name == SOURCE else \
            'phases are'
        found.append(f'{side.name}: query-migrate has no "switchover": {what} '
                     'not known, only events and statuses')
    if 'iterations' not in side.members and side.name == SOURCE:
        found.append('source: query-migrate has no "iterations": how long they '
                     'took, and stalls, are not known')
    if side.name == SOURCE and side.statuses[0][1] != 'setup':
        found.append('source: the migration had begun already when it was first '
                     'seen')
    if not side.has_status_events():
        found.append(f'{side.name}: the capability "events" is off: when a '
                     'status or a pass began is known from answers only')
    if side.unanswered:
        found.append(f'{side.name}: nothing after {side.unanswered.begin:.2f} '
                     's: the monitor did not answer any more')
    if side.lost and not side.ended:
        found.append(f'{side.name}: nothing after '
                     f'{side.lost[0]:.2f} s: {side.lost[1]}')
    return found


def missing_there(recorder: Recorder) -> list[str]:
    there = recorder.destination
    if recorder.source.status != 'completed' or not there.patched:
        return []
    if not there.phases.known:
        return ['destination: its monitor answered nothing that shows its phases']
    if there.phases.current != 'resume':
        return ['destination: the guest was not started there, as far as it '
                f'was watched (phase {there.phases.current})']
    return []


def missing_attempts(source: Source) -> list[str]:
    found = [f'attempt {attempt.number}: its phases were gone before the next '
             'answer came' for attempt in source.attempts.values()
             if not attempt.phases.known]
    if source.windows_missed:
        found.append('quiesce windows that were too short, or too close to '
                     f'others, to be told apart: {source.windows_missed}')
    last = source.last_attempt
    if last and source.status == 'completed' and last.phases.known and \
            last.phases.current != 'handover':
        found.append('source: it was gone before it could be asked for its last '
                     'phases')
    return found


def contradictions(recorder: Recorder) -> list[str]:
    """Facts that do not go together: a clock that is wrong, usually."""
    lists = [(f'attempt {a.number}', a.phases)
             for a in recorder.source.attempts.values()]
    if recorder.destination:
        lists.append((DESTINATION, recorder.destination.phases))
    found = []
    for name, phases in lists:
        _, odd = phases.place()
        if odd:
            found.append(f'{name}: ignored, as it contradicts the rest: '
                         f'{", ".join(odd)}')
    return found


# ---- attempts and phases -----------------------------------------------------

def outcome(source: Source, attempt: Attempt) -> str:
    if attempt.timeout:
        return f'timed out, {attempt.timeout.data["action"]}'
    if attempt.phases.current == 'handover':
        return 'handed over'
    if attempt.phases.current == 'approach':
        return 'backed out'
    if attempt is source.last_attempt and source.ended:
        return source.status
    return 'unknown' if attempt.over or attempt is not source.last_attempt \
        else 'goes on'


def stopped_us(attempt: Attempt) -> int | None:
    """How long the guest stood still at the source, as QEMU measured it."""
    names = [name for name, _ in attempt.phases.phases]
    if 'stop' not in names or not attempt.phases.over:
        return None
    return sum(us for _, us in attempt.phases.phases[names.index('stop'):])


def attempt_row(recorder: Recorder, attempt: Attempt) -> list[str]:
    source = recorder.source
    when = source.moment(attempt.stopped) if attempt.stopped else \
        attempt.phases.begin_of('stop')
    us = stopped_us(attempt)
    if us is None and attempt.timeout:
        still = f'{attempt.timeout.data["elapsed-ms"]} ms'
    else:
        still = '-' if us is None else duration(us)
    phases = '  '.join(f'{name} {duration(us)}'
                       for name, us in attempt.phases.phases)
    return [f'{attempt.number}',
            f'{when.at - recorder.zero:.3f} s' if when else '-',
            still, f'{outcome(source, attempt)}: {phases or "not seen"}']


def attempts(recorder: Recorder) -> list[str]:
    found = list(recorder.source.attempts.values())
    found.sort(key=lambda attempt: attempt.number)
    if not found:
        return []
    rows = [attempt_row(recorder, a) for a in found[-ATTEMPTS_SHOWN:]]
    # The last column is text, and to the left.
    lines = table(['attempt', 'at', 'guest stood still here'],
                  [row[:3] for row in rows])
    words = ['outcome and phases', '-' * 18, *(row[3] for row in rows)]
    lines = [f'{line}  {text}' for line, text in zip(lines, words)]
    if len(found) > len(rows):
        lines.append(f'({len(found) - len(rows)} attempts before these)')
    return lines


def switchover_zero(recorder: Recorder) -> Moment | None:
    """What the last second is counted from: vCPUs were paused."""
    last = recorder.source.last_attempt
    if not last:
        return None
    if last.stopped:
        return recorder.source.moment(last.stopped)
    return last.phases.begin_of('stop')


def both_phases(recorder: Recorder) -> list[tuple[str, Phase]]:
    """Of the last attempt and of the arrival, in order of time."""
    found = []
    last = recorder.source.last_attempt
    if last:
        found += [(SOURCE, phase) for phase in last.phases.placed()]
    if recorder.destination:
        found += [(DESTINATION, phase)
                  for phase in recorder.destination.phases.placed()]
    return sorted(found, key=lambda item: item[1].begin.at if item[1].begin
                  else float('inf'))


def phase_row(side: str, phase: Phase, zero: Moment) -> list[str]:
    begin = phase.begin
    return [f'{side} {phase.name}',
            milliseconds(begin.at - zero.at) if begin else '?',
            off(begin) if begin else '', duration(phase.us)
            if phase.us is not None else '']


def switchover(recorder: Recorder) -> list[str]:
    zero = switchover_zero(recorder)
    if not zero:
        return []
    rows = [phase_row(side, phase, zero)
            for side, phase in both_phases(recorder)]
    last = recorder.source.last_attempt
    what = 'vCPUs paused' if last.stopped else 'phase stop'
    lines = [f'the switchover, attempt {last.number}, in ms from: {what} '
             f'(at {zero.at - recorder.zero:.3f} s, {off(zero)})',
             *table(['phase', 'begins', 'uncertain by', 'took'], rows)]
    return lines + verdict_of_blackout(recorder)


def verdict_of_blackout(recorder: Recorder) -> list[str]:
    still = recorder.blackout()
    if still:
        return [f'the guest stood still for {milliseconds(still.at)} ms '
                f'({off(still)}), from stop to resume']
    events = stop_and_resume(recorder)
    if not events:
        return []
    begin, end = events
    return [f'from STOP to RESUME: {milliseconds(end.at - begin.at)} ms.  The '
            'guest stood still for longer: STOP comes when devices',
            'and disks have been stopped, and RESUME before they are started']


def stop_and_resume(recorder: Recorder) -> tuple[Moment, Moment] | None:
    """All that events of an unpatched QEMU tell about the guest standing still."""
    source, there = recorder.source, recorder.destination
    if source.patched or not there or source.status != 'completed':
        return None
    stops, resumes = source.named('STOP'), there.named('RESUME')
    if not stops or not resumes:
        return None
    return source.moment(stops[-1]), there.moment(resumes[0])


# ---- the timeline ------------------------------------------------------------

def entries(recorder: Recorder) -> list[tuple[Moment, str, list[str]]]:
    """What happened when, at which side, in words."""
    found = []
    for side in recorder.sides:
        found += [(side.moment(told), side.name, describe(told.name, told.data))
                  for told in side.events]
        found += [(side.clock.moment(stamp), side.name, [f'status {status}'])
                  for stamp, status in side.statuses if not stamp.sent]
        found += [(Moment.exactly(s.begin), side.name,
                   [f'the monitor did not answer for {s.seconds:.2f} s'])
                  for s in side.silences]
        if side.lost:
            found.append((Moment.exactly(side.lost[0]), side.name,
                          [side.lost[1]]))
    found += [(w.begin, SOURCE, [window_words(w)])
              for w in recorder.source.windows]
    return sorted(found, key=lambda entry: entry[0].at)


def window_words(window: Window) -> str:
    took = 'of unknown length'
    if window.us is not None:
        took = f'of {duration(window.us)}'
    elif window.end:
        took = f'of about {duration((window.end.at - window.begin.at) * 1e6)}'
    return f'quiesce window {took}, ' + \
        ('a hit: nothing in flight' if window.hit else 'no hit')


def events(recorder: Recorder) -> list[str]:
    """The whole timeline, but for passes that are many."""
    found = entries(recorder)
    passes = [entry for entry in found if entry[2][0].startswith('pass ')]
    left_out = passes[PASSES_SHOWN // 2:-PASSES_SHOWN // 2] \
        if len(passes) > PASSES_SHOWN else []
    lines = []
    for entry in found:
        if entry in left_out:
            if entry is left_out[0]:
                lines.append(f'{"":23}... {len(left_out)} more passes ...')
            continue
        moment, side, words = entry
        at = f'{moment.at - recorder.zero:8.3f} s'
        mark = '~' if moment.off >= 0.0005 else ' '
        for word in words:
            lines.append(f'{mark}{at}  {side:11}  {word}')
            at, mark = ' ' * len(at), ' '
    others = sum(max(0, side.others - len(
        [t for t in side.events if not t.name.startswith('MIGRATION') and
         t.name not in ('STOP', 'RESUME')])) for side in recorder.sides)
    if others:
        lines.append(f'({others} events of other kinds are left out)')
    return lines


# ---- the whole ---------------------------------------------------------------

def verdict(recorder: Recorder) -> str:
    source = recorder.source
    info = source.info
    text = source.status
    if info.get('error-desc'):
        text += f': {info["error-desc"]}'
    if 'total-time' in info:
        text += f', {seconds(info["total-time"] / 1000)}'
    if info.get('ram'):
        text += f', {size(source.timeline.last.transferred)} sent'
    if 'downtime' in info:
        text += f', QEMU says downtime {info["downtime"]} ms'
    return text


def totals(source: Source) -> list[str]:
    """Counters that QEMU keeps."""
    lines = []
    told = source.info.get('iterations')
    if told:
        lines.append(f'iterations: {told["count"]}, avg '
                     f'{duration(told["avg-us"])}, max '
                     f'{duration(told["max-us"])}; stalls: {told["stalls"]}; '
                     f'waited for the channel: '
                     f'{seconds(told["blocked-ms"] / 1000)}')
    switch = source.info.get('switchover')
    if switch:
        quiesce = switch['quiesce']
        lines.append(f'attempts: {switch["attempts"]}, timed out: '
                     f'{switch["drain-timeouts"]}; quiesce windows: '
                     f'{quiesce["windows"]}, hits: {quiesce["hits"]}, longest '
                     f'{quiesce["max-ms"]} ms')
    return lines


def answers_words(side: Side) -> str:
    longest = max((s.seconds for s in side.silences), default=0)
    return f'monitor unanswered for {longest:.2f} s at worst' if longest else \
        'monitor always answered within 0.1 s'


def heading(recorder: Recorder) -> list[str]:
    lines = [verdict(recorder)]
    lines += [f'{side.name}: {qemu_version(side)}; {answers_words(side)}; '
              f'clock: {clock_words(side)}' for side in recorder.sides]
    return lines + totals(recorder.source)


def last_timeout(recorder: Recorder) -> list[str]:
    """For the brief form: what was in the way."""
    timeouts = [a for a in recorder.source.attempts.values() if a.timeout]
    if not timeouts:
        return []
    last = max(timeouts, key=lambda attempt: attempt.number)
    return ['', 'the last timeout:', *describe_timeout(last.timeout.data)]


def report(recorder: Recorder, brief: bool = False) -> list[str]:
    """All lines; after recorder.settle()."""
    lines = heading(recorder)
    if not brief:
        lines += ['', 'time from the beginning of the migration; ~ is uncertain '
                  'by more than 0.5 ms', *events(recorder)]
    for part in attempts(recorder), switchover(recorder):
        lines += ['', *part] if part else []
    if brief:
        lines += last_timeout(recorder)
    if not recorder.source.last_attempt:
        lines += verdict_of_blackout(recorder)
    notes = contradictions(recorder)
    notes += [f'not known: {what}' for what in missing(recorder)]
    return lines + (['', *notes] if notes else []) + how_exact(recorder)


def how_exact(recorder: Recorder) -> list[str]:
    if not recorder.source.last_attempt:
        return []
    return ['', 'took: measured by QEMU, exact to 1 us.  begins: each list of '
            'phases as a whole is placed by events and',
            'answers, and may be off by as much as is said.  Quiesce windows '
            'begin and end between two answers.']
