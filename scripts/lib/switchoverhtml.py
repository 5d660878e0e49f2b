# SPDX-License-Identifier: GPL-2.0-or-later
"""A page about a migration: one file, nothing is loaded from elsewhere"""

import html

from histogram import duration
from switchoverrecord import Recorder
from switchovertext import (both_phases, milliseconds, off, outcome,
                            stopped_us, switchover_zero, verdict)

STYLE = '''
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; padding: 0 1em;
       max-width: 1250px; color: #222; background: #fff; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child, td.text { text-align: left; }
pre { font-size: 12.5px; overflow-x: auto; background: #f6f6f6; padding: 1em; }
.fault { color: #a84300; font-weight: bold; }
'''


def row(cells: list[str], tag: str = 'td') -> str:
    return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>'
                            for cell in cells) + '</tr>'


def table(header: list[str], rows: list[list[str]]) -> str:
    return '\n'.join(['<table>', row(header, 'th'), *map(row, rows), '</table>'])


def phases(recorder: Recorder) -> str:
    zero = switchover_zero(recorder)
    if not zero:
        return '<p>No switchover with phases was seen.</p>'
    rows = []
    for side, phase in both_phases(recorder):
        begin = phase.begin
        rows.append([f'{side} {phase.name}',
                     milliseconds(begin.at - zero.at) if begin else '?',
                     off(begin) if begin else '',
                     '' if phase.us is None else duration(phase.us)])
    return table(['phase', 'begins, ms', 'uncertain by', 'took'], rows)


def attempts(recorder: Recorder) -> str:
    source = recorder.source
    rows = []
    for number in sorted(source.attempts):
        attempt = source.attempts[number]
        us = stopped_us(attempt)
        rows.append([f'{number}', '-' if us is None else duration(us),
                     outcome(source, attempt)])
    return table(['attempt', 'guest stood still at the source', 'outcome'],
                 rows) if rows else ''


def page(recorder: Recorder, lines: list[str], svg: str | None) -> str:
    """@lines: the report as text; @svg: the picture, if there is one"""
    title = html.escape(f'Migration: {verdict(recorder)}')
    picture = svg or ('<p class="fault">No picture: python3-matplotlib is not '
                      'installed where this page was made.</p>')
    return '\n'.join([
        '<!DOCTYPE html>', '<html lang="en">', '<head>',
        '<meta charset="utf-8"/>', f'<title>{title}</title>',
        f'<style>{STYLE}</style>', '</head>', '<body>', f'<h1>{title}</h1>',
        f'<p>Watched since {html.escape(recorder.begun)}.</p>',
        picture, '<h2>Phases of the last attempt</h2>', phases(recorder),
        '<h2>Attempts</h2>', attempts(recorder), '<h2>Timeline</h2>',
        '<pre>', html.escape('\n'.join(lines)), '</pre>', '</body>', '</html>'])
