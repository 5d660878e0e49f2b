# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the scripts in scripts/ have in common"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
import contextlib
import fcntl
import os
from pathlib import Path
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading

import tap
from vm import BUILD

HANGS_AFTER_S = 60


class Failed(Exception):
    """Something is not as it must be."""


class Skipped(Exception):
    """Something is not installed."""


def require(condition: object, what: str):
    if not condition:
        raise Failed(what)


def line_with(text: str, pattern: str) -> str:
    found = [line for line in text.splitlines() if re.search(pattern, line)]
    require(len(found) == 1, f'{len(found)} lines with {pattern}: {text}')
    return found[0]


# ---- running a script -------------------------------------------------------

def start(script: Path, *args, **options) -> subprocess.Popen:
    # A terminal's size and taste are not the test's.
    env = {name: value for name, value in os.environ.items()
           if name not in ('COLUMNS', 'NO_COLOR')}
    env.update(PYTHONUNBUFFERED='1', TERM='xterm', LC_ALL='C.UTF-8')
    env.update(options.pop('env', {}))
    return subprocess.Popen([str(arg) for arg in (script, *args)], env=env,
                            stdin=subprocess.DEVNULL,
                            stdout=options.pop('stdout', subprocess.PIPE),
                            stderr=subprocess.PIPE, text=True, **options)


def finished(process: subprocess.Popen, status: int) -> tuple[str, str]:
    """What it wrote, once it has ended with @status."""
    try:
        out, err = process.communicate(timeout=HANGS_AFTER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Failed(f'it does not end: {out}{err}') from None
    require(process.returncode == status,
            f'status {process.returncode} instead of {status}: {out}{err}')
    require('Traceback' not in err, err)
    return out, err


def refused(script: Path, *args) -> str:
    """What it says on stderr when it ends with 2, and says nothing else."""
    out, err = finished(start(script, *args), 2)
    require(not out, f'stdout: {out}')
    return err


def unread(script: Path, *args):
    """It ends with 1, and says nothing, if nobody reads what it writes."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(script, *args, stdout=writer)
    os.close(writer)
    _, err = finished(process, 1)
    require(not err, err)


def held_until_said(process: subprocess.Popen, what: str,
                    hold: threading.Event):
    """Set @hold once it has said @what; or after a minute, and that fails."""
    giving_up = threading.Timer(HANGS_AFTER_S, hold.set)
    giving_up.start()
    seen = []
    for line in process.stdout:
        seen.append(line)
        if what in line:
            break
    in_time = not hold.is_set()
    hold.set()
    giving_up.cancel()
    require(in_time, ''.join(seen))


def statuses(text: str) -> list[str]:
    """The lines that were rewritten in place on a terminal, one by one."""
    lines = [part.split('\n')[0] for part in text.split('\r\x1b[K')[1:]]
    return [line for line in lines if line.startswith('[')]


def bare(line: str) -> str:
    """Without colours."""
    return re.sub(r'\x1b\[[\d;]*m', '', line)


@contextlib.contextmanager
def terminal(columns: int):
    """One that is so wide: its file, and a function that reads all of it."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ,
                struct.pack('HHHH', 24, columns, 0, 0))

    def read() -> str:
        os.close(follower)
        text = b''
        with contextlib.suppress(OSError):      # EIO: the other end is closed
            while data := os.read(leader, 65536):
                text += data
        return text.decode()
    try:
        yield follower, read
    finally:
        os.close(leader)


async def said(process, what: str, seen: list[str]):
    """Read its output until there is @what."""
    async def read():
        while line := (await process.stdout.readline()).decode():
            seen.append(line)
            if what in line:
                return
        raise Failed(f'it ended without "{what}": {"".join(seen)}')
    try:
        await asyncio.wait_for(read(), HANGS_AFTER_S)
    except asyncio.TimeoutError:
        raise Failed(f'"{what}" is missing: {"".join(seen)}') from None


@contextlib.asynccontextmanager
async def running(seen: list[str], script: Path, *args):
    """It, beside a QEMU; it has to end by itself, with status 0.

    @seen: what said() has read; the rest is added
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, (script, *args)), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    try:
        yield process
        await asyncio.wait_for(process.wait(), HANGS_AFTER_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    seen.append((await process.stdout.read()).decode())
    require(process.returncode == 0,
            f'status {process.returncode}: {"".join(seen)}')


# ---- matplotlib -------------------------------------------------------------

def without_matplotlib(directory: Path) -> dict[str, str]:
    """An environment in which it is not installed."""
    (directory / 'matplotlib.py').write_text('raise ImportError("not here")\n')
    return {'PYTHONPATH': str(directory)}


def with_matplotlib() -> dict[str, str]:
    """One in which it is; the test is skipped if there is none."""
    check = [sys.executable, '-c', 'import matplotlib']
    if subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skipped('python3-matplotlib is not installed')
    # It looks for fonts once, for seconds, and remembers them there.
    memory = BUILD / 'tmp/matplotlib'
    memory.mkdir(parents=True, exist_ok=True)
    return {'MPLCONFIGDIR': os.environ.get('MPLCONFIGDIR', str(memory))}


# ---- main -------------------------------------------------------------------

def main(doc: str, tests: Sequence[Callable[[Path], None]]) -> int:
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('test', nargs='*', help='only those')
    parser.add_argument('--tap', action='store_true',
                        help='speak the Test Anything Protocol')
    args = parser.parse_args()
    writer = tap.Writer() if args.tap else tap.TableWriter()
    for test in tests:
        name = test.__name__.replace('_', ' ')
        if args.test and test.__name__ not in args.test:
            continue
        with tempfile.TemporaryDirectory(prefix='tools-') as directory:
            try:
                test(Path(directory))
            except Skipped as why:
                writer.skip(name, why)
            except Failed as why:
                writer.result(False, name, str(why))
            else:
                writer.result(True, name)
    return writer.end()
