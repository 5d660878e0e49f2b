# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts that watch a running QEMU have in common"""

import argparse
from collections.abc import Callable
import importlib
import json
from pathlib import Path
import sys

from qmp import Connection, QmpError, Silent, connect
from term import nobody_reads

CONNECT_S = 3
PICTURES = ('.svg', '.png')


class CannotBegin(Exception):
    """There is nothing to look at."""


def main(name: str, work: Callable, args) -> int:
    """work(args), which returns the exit status; or 2, and why not."""
    try:
        return work(args)
    except CannotBegin as err:
        print(f'{name}: {err}', file=sys.stderr)
        return 2
    except BrokenPipeError:
        return nobody_reads()


class Log:
    """What a QEMU said, a line of JSON each; or nothing, without a path."""

    def __init__(self, path: Path | None):
        try:
            self.stream = path and open(path, 'w', encoding='utf-8')
        except OSError as err:
            raise CannotBegin(f'{path}: {err.strerror}') from err

    def write(self, **what):
        if self.stream:
            json.dump(what, self.stream, separators=(',', ':'))
            self.stream.write('\n')

    def close(self):
        if self.stream:
            self.stream.close()


def read_log(path: Path, feed):
    """Call @feed with each line of a log.  What it cannot take is no log."""
    try:
        with open(path, encoding='utf-8') as stream:
            for line in stream:
                feed(json.loads(line))
    except BrokenPipeError:         # of what @feed shows
        raise
    except OSError as err:
        raise CannotBegin(f'{path}: {err.strerror}') from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CannotBegin(f'{path} is not a log of this script') from err


def members_of_answer(qmp: Connection) -> set[str]:
    """What query-migrate of this QEMU may tell.

    The schema knows that before there is a migration.  Names of types in it are
    meaningless, those of commands and members are not.
    """
    schema = {item['name']: item
              for item in qmp.execute('query-qmp-schema', timeout=CONNECT_S)}
    info = schema[schema['query-migrate']['ret-type']]
    return {member['name'] for member in info['members']}


def open_monitor(address: str) -> tuple[Connection, set[str]]:
    """A session, and what query-migrate may tell."""
    try:
        qmp = connect(address, CONNECT_S)
        return qmp, members_of_answer(qmp)
    except Silent as err:
        raise CannotBegin(
            f'{err}: is somebody else connected?  QEMU serves one client per '
            'monitor: give it another one (see --help)') from err
    except QmpError as err:
        raise CannotBegin(str(err)) from err


def check_picture(option: str, path: Path, module: str):
    """Refuse at once what would fail when the migration is over.

    @module: the one that draws, and needs matplotlib
    """
    if path.suffix not in PICTURES:
        raise CannotBegin(f'{option} {path}: the name must end in '
                          f'{" or ".join(PICTURES)}')
    why = cannot_draw(module)
    if why:
        raise CannotBegin(f'{option}: {why}')


def cannot_draw(module: str) -> str | None:
    """What keeps @module from drawing, or None."""
    try:
        importlib.import_module(module)
    except ImportError as err:
        return f'python3-matplotlib is not installed ({err})'
    return None


def interval(text: str) -> float:
    """Type of --interval."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0.01 <= value <= 60:
        raise argparse.ArgumentTypeError(f"'{text}' is not from 0.01 to 60")
    return value
