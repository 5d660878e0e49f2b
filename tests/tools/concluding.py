# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what switchover-report concludes from recorded conversations"""

from pathlib import Path
import random

from hostclock import Moment
from reportreplay import (HOLD, RETRY, UNPATCHED, as_json, event, items,
                          last_answer, log_of, named, replayed,
                          require_within, watch)
from switchoverrecord import DESTINATION, SOURCE, Recorder
from switchovertext import missing, report
from tooltest import line_with, require

# Times in JSON are rounded to this.
ROUNDED_S = 2e-6


def puts_both_sides_on_one_clock(_directory: Path):
    """Durations are QEMU's own; each event lies in the phase in which it is sent; and
    it is known to half a millisecond when each phase began.

    With the list placed by the time of an answer alone, the uncertainty is that of the
    interval; with durations not added up, an event lies outside of its phase; with an
    earlier answer taken, durations differ.
    """
    result = as_json(RETRY)
    source = result['attempts'][-1]['phases']
    there = result['destination']['phases']
    for phases, side in (source, SOURCE), (there, DESTINATION):
        told = last_answer(RETRY, side)['switchover']
        require([(p['phase'], p['duration-us']) for p in phases] ==
                [(p['phase'], p['duration-us']) for p in told['phases']] +
                [(told['phase'], None)], f'{side}: {phases}')
        for a, b in zip(phases, phases[1:]):
            gap = b['begin']['at-s'] - a['begin']['at-s']
            require(abs(gap - a['duration-us'] / 1e6) < ROUNDED_S, f'{a}, {b}')
        require(all(p['begin']['off-s'] < 0.0005 for p in phases), f'{phases}')
    here, away = named(source), named(there)
    stopped = event(result, SOURCE, 'MIGRATION_SOURCE_STOPPED')
    require(stopped['off-s'] == 0, f'{stopped}')
    require_within(stopped, here['stop'])
    require_within(event(result, SOURCE, 'STOP'), here['device-stop'])
    require_within(event(result, SOURCE, 'MIGRATION', status='device'),
                   here['save'])
    require_within(event(result, DESTINATION, 'RESUME'), away['device-start'])
    require(away['load']['begin']['at-s'] > here['save']['begin']['at-s'] -
            here['save']['begin']['off-s'], 'loaded before it was sent')
    still = away['resume']['begin']['at-s'] - here['stop']['begin']['at-s']
    require(abs(still * 1000 - result['guest-stopped']['ms']) < 0.01,
            f'{result["guest-stopped"]}')


def uses_the_monotonic_clock(_directory: Path):
    """When vCPUs were paused is what the event's time-us says, on our clock.

    With the event's arrival taken, it is later by some 100 us.
    """
    head = items(RETRY)[0]
    told = [item['data']['time-us'] for item in items(RETRY)
            if item.get('event') == 'MIGRATION_SOURCE_STOPPED']
    stops = [a['stopped']['at-s'] for a in as_json(RETRY)['attempts']]
    require(len(stops) == len(told) == 3, f'{stops} {told}')
    apart = [b - a for a, b in zip(stops, stops[1:])]
    truth = [(b - a) / 1e6 for a, b in zip(told, told[1:])]
    require(all(abs(a - b) < ROUNDED_S for a, b in zip(apart, truth)),
            f'{apart} {truth} {head["begun"]}')


def tells_what_became_of_attempts(_directory: Path):
    """Each attempt with its outcome, its phases, and what was in the way.

    With the answers between attempts not looked at, the phases of the first two are
    missing; with the event ignored, they did not time out; with an attempt taken to
    begin after the first answer that shows it, contradictions are told.
    """
    out = replayed(RETRY)
    for number in 1, 2:
        require('timed out, retry: quiesce 10' in line_with(
            out, f'^{number}  .* ms  timed out'), out)
        line_with(out, f'attempt {number} timed out after 200 ms, action: retry')
    require('handed over: ' in line_with(out, '^3  '), out)
    require(out.count('stuck: ') == 4 and 'of 4096 bytes at 0x' in out and
            'node disk0, device vda' in out, out)
    result = as_json(RETRY)
    for attempt in result['attempts'][:2]:
        names = [p['phase'] for p in attempt['phases']]
        require(names == ['quiesce', 'stop', 'drain'], f'{names}')
        require(190000 < attempt['source-stopped-us'] < 260000, f'{attempt}')
        require(attempt['timeout']['requests'], f'{attempt}')
    require(not result['contradictions'], f'{result["contradictions"]}')


def shows_quiesce_windows(_directory: Path):
    """As many as QEMU counted, each as long as it was, before its attempt.

    With windows taken from counters alone, their length is unknown.
    """
    result = as_json(RETRY)
    count = last_answer(RETRY, SOURCE)['switchover']['quiesce']['windows']
    windows = result['windows']
    require(len(windows) + result['windows-missed'] == count, f'{windows}')
    for window, attempt in zip(windows, result['attempts']):
        phase = attempt['phases'][0]
        require(window['duration-us'] == phase['duration-us'] and
                window['begin'] == phase['begin'], f'{window} {phase}')
    require([w['hit'] for w in windows] == [False, False, True], f'{windows}')


def shows_the_hold_of_post_copy(_directory: Path):
    """Phase hold at the source, while the destination is in load; both events.

    With what follows save left out, the guest stood still for a millisecond; with an
    answer that an event has overtaken believed, a status comes twice.
    """
    result = as_json(HOLD)
    here = named(result['attempts'][-1]['phases'])
    away = named(result['destination']['phases'])
    require('hold' in here and here['hold']['duration-us'] > 300000, f'{here}')
    for side in SOURCE, DESTINATION:
        require_within(event(result, side, 'MIGRATION_POSTCOPY_READY'),
                       here['hold'])
    require_within(event(result, DESTINATION, 'MIGRATION_POSTCOPY_READY'),
                   away['load'])
    require(result['guest-stopped']['ms'] > 300, f'{result["guest-stopped"]}')
    statuses = [s['status'] for s in result[DESTINATION]['statuses']]
    require(statuses == ['setup', 'active', 'device', 'postcopy-ready',
                         'postcopy-active', 'completed'], f'{statuses}')
    require(not result['contradictions'], f'{result["contradictions"]}')


def says_what_an_unpatched_qemu_does_not_tell(directory: Path):
    """Events, statuses and the frozen monitor, and what is not known; no phases.

    With a default for what is missing, there are attempts or phases, or a guest that
    stood still for a time that nobody measured.
    """
    out = replayed(UNPATCHED)
    require(out.count('not known: ') == 3 and 'unpatched' in out, out)
    require('the switchover, attempt' not in out and
            'the guest stood still for' not in out, out)
    line_with(out, r'source       the monitor did not answer for 1\.\d+ s')
    line_with(out, 'from STOP to RESUME: .* ms')
    result = as_json(UNPATCHED)
    require(not result['attempts'] and result['guest-stopped'] is None and
            not result['destination']['phases'], f'{result["attempts"]}')
    out, _ = watch(directory, UNPATCHED)
    require('iteration avg' not in out, out)


def knows_another_hosts_clock(directory: Path):
    """A destination whose clock is off by an hour: its phases are where they were,
    with the uncertainty that this adds; and the difference is told.

    With stamps taken as they are, its phases are an hour away.
    """
    lines = items(RETRY)
    lines[0]['sides'][DESTINATION]['local'] = False
    for item in lines:
        if item.get('side') == DESTINATION and 'sent' in item:
            item['sent'] += 3600
    ours = named(as_json(RETRY)['destination']['phases'])
    path = log_of(directory, lines)
    result = as_json(path)
    clock = result['destination']['clock']
    require(clock['kind'] == 'other' and
            abs(clock['ahead-s'] - 3600) <= clock['off-s'], f'{clock}')
    for name, phase in named(result['destination']['phases']).items():
        begin = phase['begin']
        require(abs(begin['at-s'] - ours[name]['begin']['at-s']) <=
                begin['off-s'] + ours[name]['begin']['off-s'] + ROUNDED_S,
                f'{name}: {begin}, {ours[name]}')
    line_with(replayed(path), 'destination: .* clock: another one')


def says_what_nobody_saw(_directory: Path):
    """An attempt between two answers, a source that is gone at once: so it says.

    With the last list taken for that of any attempt, phases are those of another one.
    """
    lines = items(RETRY)
    recorder = Recorder()
    for item in lines:
        answer = item.get('query-migrate', {}).get('switchover', {})
        if item.get('side') == SOURCE and (answer.get('attempts') == 1 or
                                           answer.get('phase') == 'handover'):
            continue
        recorder.feed(item)
    recorder.settle()
    notes = missing(recorder)
    require('attempt 1: its phases were gone before the next answer came' in
            notes, f'{notes}')
    first = recorder.source.attempts[1]
    require(first.timeout and first.stopped and not first.phases.phases,
            f'{first}')


def numbers_attempts_as_qemu_does(_directory: Path):
    """Who comes in the middle knows from the counter which attempt begins.

    With those counted that were seen, it is the first one.
    """
    lines = items(RETRY)
    answer = next(item for item in lines if item.get('side') == SOURCE and
                  item.get('query-migrate', {}).get('switchover'))
    answer['query-migrate']['switchover']['attempts'] = 3
    stopped = next(item for item in lines
                   if item.get('event') == 'MIGRATION_SOURCE_STOPPED')
    recorder = Recorder()
    for item in lines[0], answer, stopped:
        recorder.feed(item)
    require(list(recorder.source.attempts) == [4],
            f'{list(recorder.source.attempts)}')


def says_nothing_false_with_less(_directory: Path):
    """With any part of the conversation lost, what is still concluded agrees with what
    all of it tells: intervals get wider, and never exclude what they had.

    With a list of phases taken for that of another attempt, or an open window for one
    that has ended, they are apart for some of the seeds.
    """
    def places(lines: list[dict]) -> dict:
        recorder = Recorder()
        for item in lines:
            recorder.feed(item)
        if not recorder.source.begun:
            return {}
        recorder.settle()
        require(report(recorder), 'no report')
        lists = {n: a.phases for n, a in recorder.source.attempts.items()}
        lists[DESTINATION] = recorder.destination.phases
        return {(which, number, phase.name): phase.begin
                for which, phases in lists.items()
                for number, phase in enumerate(phases.placed()) if phase.begin}

    for path in RETRY, HOLD, UNPATCHED:
        lines = items(path)
        whole = places(lines)
        for seed in range(40):
            rng = random.Random(seed)
            some = [lines[0], *(item for item in lines[1:]
                                if rng.random() < 0.6)]
            for key, begin in places(some).items():
                truth = whole.get(key)
                require(truth and begin.within(
                    Moment(truth.low - 1e-4, truth.high + 1e-4)),
                    f'{path.name} {seed} {key}: {begin}, {truth}')


TESTS = [
    puts_both_sides_on_one_clock, uses_the_monotonic_clock,
    tells_what_became_of_attempts, shows_quiesce_windows,
    shows_the_hold_of_post_copy, says_what_an_unpatched_qemu_does_not_tell,
    knows_another_hosts_clock, says_what_nobody_saw,
    numbers_attempts_as_qemu_does, says_nothing_false_with_less,
]
