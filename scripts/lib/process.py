# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes that do not outlive us, and waiting for what they do (asyncio)

Times are seconds on time.monotonic()'s clock, durations are seconds.  A timeout
that passes raises HarnessError; there is no "for ever".
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
import contextlib
from pathlib import Path
import signal
import subprocess
import tempfile
import time

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / 'build'


class HarnessError(Exception):
    """Something did not happen, or happened that should not have."""


async def until(condition: Callable[[], object], timeout: float, what: str):
    """Poll until @condition() is true, and return what it returned."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise HarnessError(f'waited {timeout:g} s for {what}')
        await asyncio.sleep(0.005)
    return result


def socket_directory(directory: Path) -> Path:
    """@directory, or a temporary one if that is too long for a socket."""
    if len(str(directory)) < 70:
        return directory
    return Path(tempfile.mkdtemp(prefix='vm-'))


class Process:
    """A child process with a log, which does not outlive this one.

    A guard, a shell that waits for its standard input to end, kills the child
    if this process dies without ending it.  PR_SET_PDEATHSIG would not do:
    nbdkit sets it to SIGTERM, on which a paused nbdkit does not exit.
    """

    def __init__(self, name: str, directory: Path):
        self.name = name
        self.directory = directory
        self.log_path = directory / f'{name}.log'
        self.popen: subprocess.Popen | None = None
        self._guard: subprocess.Popen | None = None

    def spawn(self, command: Sequence[str], pass_fds: Iterable[int] = ()):
        try:
            with open(self.log_path, 'wb') as log:
                self.popen = subprocess.Popen(
                    [str(word) for word in command], cwd=self.directory,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=tuple(pass_fds), start_new_session=True)
        except OSError as err:
            raise HarnessError(f'cannot start {self.name}: {err}') from err
        self._guard = subprocess.Popen(
            ['sh', '-c', f'read _ || kill -KILL {self.popen.pid}'],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def children(self) -> list[int]:
        """Processes that it has started and that are not reaped."""
        found = []
        for task in Path(f'/proc/{self.popen.pid}/task').glob('*/children'):
            with contextlib.suppress(OSError):      # a thread that ends
                found += [int(word) for word in task.read_text().split()]
        return found

    def log_tail(self) -> str:
        """The end of what the process wrote, for error messages."""
        with contextlib.suppress(OSError):
            return self.log_path.read_text(errors='replace')[-2000:].strip()
        return ''

    def check(self):
        """Raise if the process has ended."""
        if not self.running:
            raise HarnessError(f'{self.name} has ended '
                               f'(status {self.popen.returncode}): '
                               f'{self.log_tail()}')

    async def end(self, grace: float = 2):
        """SIGTERM, and SIGKILL after @grace seconds; 0 kills at once."""
        if self.running and grace:
            self.popen.terminate()
            with contextlib.suppress(HarnessError):
                await until(lambda: not self.running, grace, self.name)
        if self.running:
            self.popen.kill()
        if self.popen:
            self.popen.wait()
        if self._guard:
            self._guard.communicate(b'\n')
            self._guard = None


def run(main, *args) -> int:
    """asyncio.run() that ends child processes on SIGTERM and Ctrl-C too.

    Returns main's result, or 130 if it was interrupted.
    """
    async def guarded():
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, task.cancel)
        return await main(*args)
    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        return 130
