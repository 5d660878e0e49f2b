# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of what benchmarks measured, as SVG (needs matplotlib)

Each single measurement is a dot, the medians are bars or a line.  Where the
conditions are numbers it is lines over them, else groups of bars.
"""

import io
import re

import matplotlib
matplotlib.use('Agg')                   # no display is needed
# pylint: disable=wrong-import-position
from matplotlib import pyplot                                   # noqa: E402
from matplotlib.ticker import (FuncFormatter, LogLocator,       # noqa: E402
                               NullLocator)

from summary import Measured, Row                               # noqa: E402

UNPATCHED_COLOUR = '0.45'
COLOURS = ['tab:blue', 'tab:orange', 'tab:green', 'tab:purple', 'tab:brown',
           'tab:olive', 'tab:cyan']
FEW = 3                 # rows that a line is worth to be drawn through
WIDTH, HEIGHT = 4.4, 3.0
MOST_IN_A_LINE = 3


def _colours(measured: Measured) -> dict[str, str]:
    """The same one for the unpatched QEMU everywhere."""
    found = dict(zip([v for v in measured.variants
                      if v != measured.part.base], COLOURS))
    found[measured.part.base] = UNPATCHED_COLOUR
    return found


def _number(value: float, _=None) -> str:
    """Three digits that count, and never an exponent."""
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _log_scale(axes, values: list[float]):
    axes.set_yscale('log')
    axes.set_ylim(min(values) / 1.6, max(values) * 1.8)
    few = max(values) < 100 * min(values)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_minor_locator(NullLocator())


def _lines(axes, measured: Measured, rows: list[Row], colours: dict):
    place = measured.part.x
    for variant in measured.variants:
        known = [(place(row.row), row.medians[variant], row.values[variant])
                 for row in rows if row.medians[variant] is not None]
        if not known:
            continue
        axes.plot([x for x, _, _ in known], [y for _, y, _ in known],
                  color=colours[variant], marker='o', markersize=4,
                  linewidth=1.5, label=variant)
        axes.plot([x for x, _, values in known for _ in values],
                  [y for _, _, values in known for y in values],
                  color=colours[variant], marker='.', markersize=3,
                  linestyle='none', alpha=0.5)
    numbers = [place(row.row) for row in rows]
    if numbers[0] > 0 and numbers[-1] >= 8 * numbers[0]:
        axes.set_xscale('log')
    words = [str(row.row) for row in rows]
    axes.set_xticks(numbers, words,
                    rotation=30 if len(max(words, key=len)) > 4 else 0)
    axes.minorticks_off()
    axes.set_xlabel(measured.part.rows)


def _bars(axes, measured: Measured, rows: list[Row], colours: dict):
    variants = measured.variants
    width = 0.8 / len(variants)
    for i, variant in enumerate(variants):
        at = [n - 0.4 + (i + 0.5) * width for n in range(len(rows))]
        axes.bar(at, [row.medians[variant] or 0 for row in rows], width * 0.92,
                 color=colours[variant], alpha=0.75, label=variant)
        axes.plot([x for x, row in zip(at, rows)
                   for _ in row.values[variant]],
                  [y for row in rows for y in row.values[variant]],
                  color='black', marker='.', markersize=3, linestyle='none')
        for x, row in zip(at, rows):
            if row.medians[variant] is not None:
                axes.annotate(_number(row.medians[variant]),
                              (x, max(row.values[variant])), xytext=(0, 3),
                              textcoords='offset points', ha='center', size=7)
    turned = len(rows) > 4
    axes.set_xticks(range(len(rows)), [row.name for row in rows],
                    rotation=30 if turned else 0,
                    ha='right' if turned else 'center')


def _panel(axes, measured: Measured, panel: str, colours: dict):
    rows = [row for row in measured.rows if row.panel == panel]
    numbers = {measured.part.x(row.row) for row in rows}
    if None not in numbers and len(numbers) == len(rows) >= FEW:
        _lines(axes, measured, rows, colours)
    else:
        _bars(axes, measured, rows, colours)
    known = [value for row in measured.rows
             for values in row.values.values() for value in values]
    if measured.part.log and known and min(known) > 0:
        _log_scale(axes, known)
    else:
        axes.set_ylim(0, max(known, default=1) * 1.12)
    axes.grid(axis='y', color='0.9', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(panel, size=9)


def _own_ids(text: str, name: str) -> str:
    """The element, with ids that no other picture in the page has."""
    text = text[text.index('<svg'):]
    return re.sub(r'( id="| xlink:href="#|url\(#)', rf'\1{name}-', text)


def svg(measured: Measured, name: str) -> str:
    """An <svg> element; @name: unique in the page that it is for"""
    # Text stays text: it can be searched and is small.  With a salt, ids are
    # the same each time.
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name,
                                'font.size': 8, 'font.family': 'sans-serif'}):
        panels = measured.panels
        columns = min(len(panels), MOST_IN_A_LINE)
        lines = -(-len(panels) // columns)
        wide = max(WIDTH, 0.42 * len(measured.variants) * max(
            sum(row.panel == panel for row in measured.rows)
            for panel in panels)) if columns == 1 else WIDTH * 0.85
        figure, grid = pyplot.subplots(
            lines, columns, squeeze=False, sharey=True, layout='constrained',
            figsize=(min(wide, 10) * columns, HEIGHT * lines))
        colours = _colours(measured)
        for axes, panel in zip(grid.flat, panels):
            _panel(axes, measured, panel, colours)
        for axes in list(grid.flat)[len(panels):]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(measured.part.unit)
        grid[0][0].legend(loc='best', fontsize=7, framealpha=0.8)
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata={
            'Date': None, 'Creator': None, 'Format': None, 'Type': None})
        pyplot.close(figure)
    return _own_ids(out.getvalue(), name)
