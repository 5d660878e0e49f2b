# SPDX-License-Identifier: GPL-2.0-or-later
"""Has scripts/switchover-report look at recorded migrations"""

from contextlib import ExitStack
from functools import partial
import json
from pathlib import Path

import tooltest
from replayedqemu import Recording, ReplayedQemu
from switchoverrecord import DESTINATION, SOURCE
from tooltest import finished, require

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / 'scripts/switchover-report'
RETRY = HERE / 'recorded-switchover'
HOLD = HERE / 'recorded-postcopy-hold'
UNPATCHED = HERE / 'recorded-unpatched'
COMMANDS = {'qmp_capabilities', 'query-qmp-schema', 'query-status',
            'query-migrate'}

start = partial(tooltest.start, SCRIPT)


def items(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_answer(path: Path, side: str) -> dict:
    return [item['query-migrate'] for item in items(path)
            if item.get('side') == side and 'query-migrate' in item][-1]


def log_of(directory: Path, lines: list[dict]) -> Path:
    path = directory / 'made-up'
    path.write_text('\n'.join(map(json.dumps, lines)))
    return path


def replayed(path: Path, *args, status: int = 0) -> str:
    out, _ = finished(start('--from', path, '--quiet', *args), status)
    return out


def as_json(path: Path, status: int = 0) -> dict:
    return json.loads(replayed(path, '--json', '-', status=status))


def watch(directory: Path, recording: Path, *args, status: int = 0,
          change=lambda source, destination: None, source=None,
          destination=None) -> tuple[str, str]:
    """It has watched both sides of @recording to their ends.

    @change: edits both recordings
    @source, @destination: more arguments for the ReplayedQemus
    """
    sides = [Recording(recording, side) for side in (SOURCE, DESTINATION)]
    change(*sides)
    with ExitStack() as stack:
        qemus = [stack.enter_context(ReplayedQemu(directory, side, name=name,
                                                  **(options or {})))
                 for side, name, options in zip(sides, (SOURCE, DESTINATION),
                                                (source, destination))]
        done = finished(start('--interval', '0.01', *args, qemus[0].path,
                              qemus[1].path), status)
        for qemu in qemus:
            require(set(qemu.commands) <= COMMANDS, f'it gave {qemu.commands}')
    return done


def event(result: dict, side: str, name: str, **data) -> dict:
    """The last one of that name, as JSON has it."""
    found = [e for e in result[side]['events'] if e['event'] == name and
             data.items() <= e['data'].items()]
    require(found, f'no {name} {data} of {side}')
    return found[-1]


def require_within(what: dict, phase: dict):
    """@what happened in @phase, as far as both are known."""
    begin = phase['begin']['at-s']
    off = phase['begin']['off-s'] + what['off-s'] + 1e-5
    require(begin - off <= what['at-s'] <=
            begin + phase['duration-us'] / 1e6 + off, f'{what}: {phase}')


def named(phases: list[dict]) -> dict[str, dict]:
    return {phase['phase']: phase for phase in phases}
