# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians and ratios of what a benchmark has left in its file

Each benchmark is summed up as Parts.  A Part is about one measure: a row for
each condition, a column for each variant.  A ratio is to the unpatched QEMU, of
two measurements of the same turn; told is the median of these.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench import cell, median, pairs, rounds

STOCK = 'stock'


@dataclass(frozen=True)
class Point:
    """One measurement.

    @row: its condition, such as a latency: a number or words
    @panel: what does not fit into a row; it gets a plot of its own
    @turn: measurements of one turn make a pair
    """
    variant: str
    turn: object
    value: float | None
    row: float | str = ''
    panel: str = ''


@dataclass(frozen=True)
class Part:
    """One measure.

    @rows: what the rows are, or '' if there is but one
    @row_name: the words for one; @x: the number to plot it at, if any
    @log: the values are of several orders of magnitude
    @base: of the ratios
    @higher: more of it is better
    """
    title: str
    unit: str
    points: Callable[[dict], Iterable[Point]]
    rows: str = ''
    row_name: Callable = str
    x: Callable = lambda row: row if isinstance(row, (int, float)) else None
    log: bool = False
    digits: int = 0
    base: str = STOCK
    higher: bool = False


@dataclass
class Row:
    """All that was measured in one condition.

    medians, values, ratios, pairs: by variant; the latter two not of the base
    """
    panel: str
    row: float | str
    name: str
    medians: dict[str, float | None]
    values: dict[str, list[float]]
    ratios: dict[str, float | None] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)

    def runs(self) -> str:
        numbers = sorted({len(values) for values in self.values.values()
                          if values})
        return '-'.join(str(n) for n in {numbers[0], numbers[-1]}) \
            if numbers else '0'


def ratio_cell(value: float | None) -> str:
    """Two digits that count, where it is small."""
    if value is None:
        return '-'
    return f'{value:.2f}' if value >= 0.1 else f'{value:.2g}'


def _row(part: Part, points: list[Point], variants: list[str]) -> Row:
    values = {v: [p.value for p in points
                  if p.variant == v and p.value is not None]
              for v in variants}
    turns = rounds(points, 'value')
    first = points[0]
    row = Row(first.panel, first.row, part.row_name(first.row),
              {v: median(values[v]) for v in variants}, values)
    for variant in variants:
        if variant == part.base:
            continue
        ratios = pairs(turns, variant, part.base)
        row.ratios[variant] = median(ratios)
        row.pairs[variant] = len(ratios)
    return row


class Measured:
    """A Part with its rows.

    variants: the base first, if it was measured
    """

    def __init__(self, part: Part, data: dict):
        self.part = part
        points = list(part.points(data))
        variants = list(dict.fromkeys(point.variant for point in points))
        self.variants = sorted(variants, key=lambda v: v != part.base)
        conditions: dict[tuple, list[Point]] = {}
        for point in points:
            conditions.setdefault((point.panel, point.row), []).append(point)
        self.rows = [_row(part, found, self.variants)
                     for found in conditions.values()]
        panels = list(dict.fromkeys(row.panel for row in self.rows))
        self.rows.sort(key=lambda row: (panels.index(row.panel),
                                        part.x(row.row) or 0))

    @property
    def has_base(self) -> bool:
        return self.part.base in self.variants

    @property
    def panels(self) -> list[str]:
        return list(dict.fromkeys(row.panel for row in self.rows))

    def _compared(self) -> list[str]:
        return [v for v in self.variants if v != self.part.base] \
            if self.has_base else []

    def _ratio(self, row: Row, variant: str) -> str:
        value = row.ratios.get(variant)
        # What is claimed of throughput are percents.
        return cell(value, 3) if self.part.higher else ratio_cell(value)

    @property
    def _one_row(self) -> bool:
        return len(self.rows) == 1 and not self.rows[0].name

    def header(self) -> list[str]:
        part = self.part
        if self._one_row:
            return ['', part.unit, *([f'/ {part.base}'] if self._compared()
                                     else []), 'runs']
        return [part.rows, *(f'{v}, {part.unit}' for v in self.variants),
                *(f'{v} / {part.base}' for v in self._compared()), 'runs']

    def table(self) -> list[list[str]]:
        """Its lines; if there is but one row, it has a line per variant."""
        digits = self.part.digits
        if not self._one_row:
            return [[', '.join(word for word in (row.panel, row.name) if word),
                     *(cell(row.medians[v], digits) for v in self.variants),
                     *(self._ratio(row, v) for v in self._compared()),
                     row.runs()] for row in self.rows]
        row, = self.rows
        return [[v, cell(row.medians[v], digits),
                 *([self._ratio(row, v)] if self._compared() else []),
                 str(len(row.values[v]))] for v in self.variants]

    def as_json(self) -> dict:
        return {'title': self.part.title, 'unit': self.part.unit,
                'base': self.part.base,
                'rows': [{'condition': ', '.join(w for w in (r.panel, r.name)
                                                 if w),
                          'medians': r.medians, 'ratios': r.ratios,
                          'pairs': r.pairs,
                          'runs': {v: len(n) for v, n in r.values.items()}}
                         for r in self.rows]}
