# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration's iterations in words: a live line, and a summary at the end"""

from math import isinf

from histogram import duration, logarithmic
from iterations import BUSY, Sample, Stall, Timeline
from term import Terminal

BAR = 20
SPARK = 12
MONITOR_SILENT_S = 0.5

SIZES = [(1 << 40, 'TiB'), (1 << 30, 'GiB'), (1 << 20, 'MiB'), (1 << 10, 'KiB')]


def size(count: float) -> str:
    for unit, name in SIZES:
        if count >= unit:
            number = count / unit
            return f'{number:.{1 if number < 99.95 else 0}f} {name}'
    return f'{count:.0f} bytes'


def seconds(value: float) -> str:
    return f'{value:.1f} s' if value < 600 else f'{value / 60:.0f} min'


def bar(progress: float) -> str:
    full = int(progress * BAR)
    return f'[{"#" * full}{"." * (BAR - full)}] {int(progress * 100):3} %'


def eta_words(eta: float | None) -> str:
    if eta is None:
        return 'ETA -'
    return 'does not converge' if isinf(eta) else f'ETA {seconds(eta)}'


class View:
    """Shows a Timeline on a terminal."""

    def __init__(self, term: Terminal):
        self.term = term

    # -- live

    def status(self, timeline: Timeline, now: float, silent: float):
        """The line that is rewritten.

        @silent: seconds for which QEMU has owed an answer
        """
        parts = self._parts(timeline, now, silent)
        plain = '  '.join(text for text, _ in parts)
        text = '  '.join(self.term.warning(text) if loud else text
                         for text, loud in parts)
        if self.term.live and len(plain) >= self.term.columns:
            # Better without colours than cut within one.
            text = plain
        self.term.status(text, len(plain))

    def _parts(self, timeline: Timeline, now: float,
               silent: float) -> list[tuple[str, bool]]:
        """What to show, and whether it is a warning; the vital first."""
        last = timeline.last
        parts = []
        if last.progress is not None:
            parts.append((bar(last.progress), False))
        if last.status != 'active':
            parts.append((last.status, False))
        if silent > MONITOR_SILENT_S:
            parts.append((f'MONITOR SILENT for {seconds(silent)}', True))
        if timeline.stalled:
            parts.append((f'STALLED {seconds(timeline.stalled.seconds(now))} '
                          f'({size(timeline.stalled.queued)} queued)', True))
        else:
            parts += [(text, False) for text in self._speed(timeline)]
        parts.append((f'iteration avg {duration(last.number("avg-us"))} '
                      f'max {duration(last.number("max-us"))}', False))
        spark = self._spark(timeline)
        return parts + [(spark, False)] if spark else parts

    @staticmethod
    def _speed(timeline: Timeline) -> list[str]:
        found = []
        if timeline.last.ram and timeline.bytes_s is not None:
            found = [f'{size(timeline.bytes_s)}/s', eta_words(timeline.eta)]
        if (timeline.blocked or 0) >= BUSY:
            found.append(f'waits {timeline.blocked * 100:.0f} % for the reader')
        return found

    def _spark(self, timeline: Timeline) -> str:
        """The latest intervals' means; where none ended, the longest."""
        means = [item.mean_us for item in timeline.intervals(SPARK)]
        top = max((mean for mean in means if mean), default=0)
        if not top:
            return ''
        return self.term.spark([top if mean is None else mean
                                for mean in means], top)

    # -- lines that stay

    def stall(self, stall: Stall, at: float):
        if stall.end is None:
            self.term.say(self.term.warning(
                f'{at:7.2f} s  STALLED: nothing was taken for '
                f'{seconds(stall.seconds(at))}, {size(stall.queued)} queued '
                f'(phase {stall.phase})'))
        else:
            self.term.say(f'{at:7.2f} s  the stall is over after '
                          f'{seconds(stall.seconds(at))}')

    # -- the end

    def summary(self, timeline: Timeline):
        last = timeline.last
        histogram = logarithmic(last.buckets, min(self.term.columns, 79))
        for line in [self._verdict(last), *self._numbers(last),
                     *([''] if histogram else []), *histogram]:
            self.term.say(line)

    def _verdict(self, last: Sample) -> str:
        colour = {'completed': self.term.good, 'failed': self.term.warning,
                  'cancelled': self.term.warning}.get(last.status, str)
        text = colour(last.status)
        if last.info.get('error-desc'):
            text += f': {last.info["error-desc"]}'
        if 'total-time' in last.info:
            text += f', {seconds(last.info["total-time"] / 1000)}'
        if last.ram:
            text += f', {size(last.transferred)} sent'
        return text

    @staticmethod
    def _numbers(last: Sample) -> list[str]:
        times = '  '.join(f'{name} {duration(last.number(name + "-us"))}'
                          for name in ('min', 'avg', 'max'))
        return [f'iterations  count {last.number("count")}  {times}',
                f'channel     stalls {last.number("stalls")}  waited for '
                f'{seconds(last.number("blocked-ms") / 1000)}']
