# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests what migration-iterations concludes from answers that are made up"""

from pathlib import Path

from histogram import duration, logarithmic
from iterations import Timeline
from tooltest import require


def answer(count: int, avg: int, buckets: dict[int, int], **ram) -> dict:
    ram = {'transferred': 0, 'remaining': 0, 'normal': 0, 'duplicate': 0,
           'page-size': 4096, 'dirty-pages-rate': 0, **ram}
    return {'status': 'active', 'ram': ram, 'iterations': {
        'count': count, 'min-us': 1, 'avg-us': avg, 'max-us': 10 ** 6,
        'stalls': 0, 'blocked-ms': 0,
        'histogram': [{'from-us': us, 'count': n}
                      for us, n in sorted(buckets.items())]}}


def tells_when_it_is_done(_directory: Path):
    """The ETA is for what remains at what is sent less what is dirtied.

    With dirtied memory ignored the first is 2 s, and the second not infinite.
    """
    timeline = Timeline()
    timeline.add_answer(0, answer(0, 0, {}, normal=0))
    timeline.add_answer(1, answer(0, 0, {}, normal=1000,
                                  remaining=2000 * 4096,
                                  **{'dirty-pages-rate': 500}))
    require(timeline.eta == 4, f'4 s: {timeline.eta}')
    timeline.add_answer(2, answer(0, 0, {}, normal=2000,
                                  remaining=2000 * 4096,
                                  **{'dirty-pages-rate': 1500}))
    require(timeline.eta == float('inf'), f'never: {timeline.eta}')
    timeline.add_event(2.5, 'MIGRATION_STALLED', {
        'phase': 'approach', 'blocked-ms': 1000, 'bytes-queued': 1,
        'ended': False})
    require(timeline.eta is None, f'in a stall: {timeline.eta}')


def tells_the_mean_of_an_interval(_directory: Path):
    """The mean of some new iterations among many is within their buckets.

    By the rounded averages alone the second would be 0, or below.
    """
    timeline = Timeline()
    timeline.add_answer(0, answer(10, 100, {64: 10}))
    timeline.add_answer(1, answer(12, 150, {64: 10, 256: 2}))
    means = [item.mean_us for item in timeline.intervals()]
    require(means == [400], f'400 us: {means}')
    timeline.add_answer(2, answer(100000, 100, {64: 99998, 256: 2}))
    timeline.add_answer(3, answer(100010, 99, {64: 99998, 256: 12}))
    mean = timeline.intervals()[-1].mean_us
    require(256 <= mean <= 512, f'{mean} us')


def keeps_a_bounded_history(_directory: Path):
    """However long it takes, some thousand answers are kept, and no sum changes.

    With all kept, there are 20000; with old ones dropped, iterations miss.
    """
    timeline = Timeline()
    for number in range(20000):
        timeline.add_answer(number / 10, answer(number, 100, {64: number}))
    require(len(timeline.samples) < 5000, f'{len(timeline.samples)} kept')
    counts = [sum(item.buckets.values()) for item in timeline.intervals()]
    require(sum(counts) == 19999, f'{sum(counts)} iterations')
    require(counts[-100:] == [1] * 100, f'{counts[-100:]}')


def draws_a_histogram(_directory: Path):
    """Bars are to scale, one of thousands is visible, no line is too long.

    With small counts rounded down, the last bucket has no bar.  With what comes after
    the bucket of less than 2 us found by doubling its bound, 0, it never ends.
    """
    lines = logarithmic({0: 1, 4: 2}, 60)
    require([line.split()[0] for line in lines] == ['value', '0', '2', '4'],
            f'{lines}')
    lines = logarithmic({128: 10000, 512: 5000, 4096: 1}, 60)
    require(max(map(len, lines)) <= 60, f'{lines}')
    bars = [line.count('@') for line in lines[1:]]
    room = lines[0].count('-')
    require(bars == [room, 0, round(room / 2), 0, 0, 1], f'{bars} of {room}')
    words = [duration(us) for us in (1, 999, 999.6, 1024, 99949, 999499,
                                     999500, 2 ** 30)]
    require(words == ['1 us', '999 us', '1.00 ms', '1.02 ms', '99.9 ms',
                      '999 ms', '1.00 s', '1074 s'], f'{words}')


TESTS = [tells_when_it_is_done, tells_the_mean_of_an_interval,
         keeps_a_bounded_history, draws_a_histogram]
