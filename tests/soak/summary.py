# SPDX-License-Identifier: GPL-2.0-or-later
"""What a soak came to: a line for each turn, a table at the end, and JSON"""

from collections import Counter, defaultdict
from dataclasses import asdict

from chain import Record
from term import Terminal, table

STATUSES = ('completed', 'failed', 'cancelled')


def milliseconds(value: float | None) -> str:
    return '-' if value is None else f'{value * 1000:.0f} ms'


def describe(turn) -> str:
    """What a turn is, in a few words."""
    words = [turn.kind, turn.where()]
    words += [word for word, on in (('bitmaps', turn.bitmaps),
                                    ('pause', turn.pauses)) if on]
    fault = turn.fault
    if turn.has('disk'):
        which = 'both' if turn.disk is None else turn.disk
        fault = fault.replace('disk', f'disk({which})')
    if turn.has('disk') or turn.has('peer'):
        fault += f' {turn.lasts:.1f} s'
    return f'{turn.number:4} {" ".join(words):32.32} {fault:22.22}'


def line(record: Record) -> str:
    """A turn that is over."""
    counts = record.counts
    return (f'{describe(record.turn)} {record.status:9} '
            f'{record.took:5.1f} s  guest {milliseconds(record.silence):>7}  '
            f'QMP {milliseconds(record.answer):>7}  '
            f'fds {counts.get("descriptors", "-")} '
            f'threads {counts.get("threads", "-")} '
            f'heap {counts.get("heap-kib", 0) / 1024:.1f} MiB')


class Summary:
    """Of the turns so far."""

    def __init__(self):
        self.records: list[Record] = []

    def add(self, record: Record):
        self.records.append(record)

    def _count(self, key) -> list[list[str]]:
        """Rows of a table: how the turns ended that have the same key."""
        counts = defaultdict(Counter)
        for record in self.records:
            counts[key(record.turn)][record.status] += 1
        return [[name, str(count.total()),
                 *[str(count[status] or '-') for status in STATUSES]]
                for name, count in sorted(counts.items())]

    def worst(self, what: str) -> Record | None:
        """The turn with the longest @what."""
        known = [r for r in self.records if getattr(r, what) is not None]
        return max(known, key=lambda r: getattr(r, what), default=None)

    def backed_out(self) -> int:
        """Turns in which the guest had been stopped, and ran on."""
        return sum('postcopy-ready' in r.done or 'pre-switchover' in r.done or
                   r.turn.fault == 'drain-fail'
                   for r in self.records if r.status != 'completed')

    def show(self, term: Terminal, growth: list[float]):
        for title, key in (('kind', lambda t: t.kind),
                           ('channels', lambda t: t.where()),
                           ('fault', lambda t: t.fault)):
            term.say()
            for text in table([title, 'turns', *STATUSES], self._count(key)):
                term.say(text)
        term.say()
        term.say(f'backed out of a switchover: {self.backed_out()}')
        for what, text in (('silence', 'longest silence of the guest'),
                           ('answer', "longest answer of a monitor"),
                           ('cancel', 'longest wait for migrate_cancel')):
            record = self.worst(what)
            if record:
                term.say(f'{text}: {milliseconds(getattr(record, what))} '
                         f'(turn {record.turn.number}: {record.turn.kind}, '
                         f'{record.turn.fault})')
        if self.records:
            first, last = self.records[0].counts, self.records[-1].counts
            term.say('first and last: ' + ', '.join(
                f'{name} {first[name]} {last[name]}' for name in first))
        if growth:
            term.say('memory of a source, per turn: ' + ', '.join(
                f'{value:.1f} KiB' for value in growth))

    def data(self, growth: list[float]) -> dict:
        return {
            'turns': [asdict(record) for record in self.records],
            'backed-out': self.backed_out(),
            'worst': {what: getattr(record, what)
                      for what in ('silence', 'answer', 'cancel')
                      if (record := self.worst(what))},
            'growth-kib-per-turn': growth,
        }
