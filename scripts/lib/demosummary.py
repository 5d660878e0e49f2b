# SPDX-License-Identifier: GPL-2.0-or-later
"""The table at the end of the demo"""

from dataclasses import dataclass, field

from term import table

# What is promised.  Above it a row gets a mark, and only far above it the demo
# fails: on a busy machine a process may wait for a CPU for a while.
FREEZE_LIMIT = 0.300
MONITOR_LIMIT = 0.100


@dataclass
class Result:
    """What one run found out; durations in seconds."""
    title: str
    patched: bool
    baseline_gap: float = 0
    baseline_monitor: float = 0
    freeze: float = 0
    handover: float = 0
    monitor: float = 0
    attempts: int | None = None
    timeouts: int = 0
    requests: list[str] = field(default_factory=list)
    migration: str = 'did not end'
    total_ms: int = 0
    verified: str = 'not reached'
    failures: list[str] = field(default_factory=list)


def milliseconds(value: float, limit: float | None = None) -> str:
    mark = ' (!)' if limit and value > limit else ''
    return f'{value * 1000:.0f} ms{mark}'


def cells(result: Result) -> list[str]:
    """The column of a run, in the order of LABELS."""
    freeze_limit = FREEZE_LIMIT if result.patched else None
    monitor_limit = MONITOR_LIMIT if result.patched else None
    return [
        milliseconds(result.baseline_gap),
        milliseconds(result.freeze, freeze_limit),
        milliseconds(result.handover),
        milliseconds(result.baseline_monitor),
        milliseconds(result.monitor, monitor_limit),
        str(result.attempts) if result.attempts is not None else '-',
        str(result.timeouts) if result.patched else '-',
        f'{result.migration}, {result.total_ms / 1000:.1f} s',
        result.verified,
    ]


LABELS = [
    'guest silent at most, before the disk hung',
    'guest silent at most, from then on',
    '  of these, when it moved to the destination',
    "monitor's worst answer, before",
    "monitor's worst answer, from then on",
    'attempts to switch over',
    '  of these, timed out',
    'migration',
    "guest's data, verified on the destination",
]
PROMISES = ['', milliseconds(FREEZE_LIMIT), '', '',
            milliseconds(MONITOR_LIMIT), '', '', '', '']


def summary(results: list[Result], hang: float) -> list[str]:
    header = [f'disk hung for {hang:g} s', *(r.title for r in results),
              'promise']
    columns = [LABELS, *(cells(r) for r in results), PROMISES]
    lines = table(header, [list(row) for row in zip(*columns)])
    if any('(!)' in line for line in lines):
        lines += ['', '(!) above what is promised.  Look at the baseline: on a '
                  'machine with less than two', '    idle CPUs these times '
                  'include waiting for one.']
    return lines
