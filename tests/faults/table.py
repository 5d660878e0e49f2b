# SPDX-License-Identifier: GPL-2.0-or-later
"""What the matrix found, for a person and for a program"""

from collections.abc import Sequence
import json
import os
from pathlib import Path
import time

from term import table
from trial import Result

HEADER = ['fault / phase / action / features', 'seen in', 'QMP src', 'QMP dst',
          'silent', 'limit', 'cancel', 'owner', 'verified', '']


def _ms(result: Result, name: str) -> str:
    measure = result.measured(name)
    if not measure:
        return '-'
    return f'{measure.ms:.0f}{"!" if measure.is_exceeded else ""}'


def verdict(result: Result) -> str:
    if result.missed:
        return 'missed'
    if result.is_excused:
        return 'FAIL, busy'
    return 'ok' if result.is_good else 'FAIL'


def row(result: Result) -> list[str]:
    freeze = result.measured('guest silent')
    return [result.cell.name.replace('/', ' / '), result.seen or '-',
            _ms(result, 'QMP at the source'),
            _ms(result, 'QMP at the destination'),
            _ms(result, 'guest silent'),
            f'{freeze.limit_ms:.0f}' if freeze else '-',
            _ms(result, 'migrate_cancel took effect'),
            result.owner or '-', result.verified or '-', verdict(result)]


def one_line(result: Result) -> str:
    """While it goes on."""
    cells = row(result)
    return (f'silent {cells[4]} of {cells[5]} ms, QMP {cells[2]} and '
            f'{cells[3]} ms, cancel {cells[6]} ms, {cells[7]} runs, '
            f'{cells[8]}, {result.seconds:.0f} s')


def remarks(result: Result) -> str:
    """Why it is not good."""
    return '; '.join([result.missed] * bool(result.missed) + result.reasons)


def lines(results: Sequence[Result]) -> list[str]:
    """The table; times in ms, ! is above the limit."""
    return table(HEADER, [row(result) for result in results])


def save(path: Path, results: Sequence[Result], skipped: dict[str, str],
         qemu: Path):
    """Everything, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {'at': time.strftime('%Y-%m-%dT%H:%M:%S%z'), 'qemu': qemu.name,
            'cpus': os.cpu_count(), 'load': os.getloadavg(),
            'does-not-apply': skipped,
            'cells': [result.as_json() for result in results]}
    path.write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')
