# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands beside a cell: a disk whose requests hang, a look at the machine"""

from pathlib import Path
import subprocess
import threading

from vm import HarnessError, until

HERE = Path(__file__).resolve().parent


class NbdGate:
    """An NBD server whose requests of one kind can hang: see nbdgate.

    @directory: for its socket, so with a short name
    @server: the socket of the one behind it
    """

    def __init__(self, directory: Path, server: Path):
        self.path = directory / 'gate.sock'
        self._log = directory / 'nbdgate.log'
        self._server = server
        self._process: subprocess.Popen | None = None

    async def __aenter__(self):
        self.path.unlink(missing_ok=True)
        with open(self._log, 'wb') as log:
            self._process = subprocess.Popen(
                [str(HERE / 'nbdgate'), str(self.path), str(self._server)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True)
        await until(self.path.exists, 10, 'nbdgate')
        self.held()
        return self

    async def __aexit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self.path.unlink(missing_ok=True)

    def _order(self, *words) -> int:
        try:
            self._process.stdin.write(' '.join(map(str, words)).encode() +
                                      b'\n')
            self._process.stdin.flush()
            return int(self._process.stdout.readline())
        except (OSError, ValueError) as err:
            raise HarnessError(f'nbdgate: {err}: '
                               f'{self._log.read_text().strip()}') from err

    def hold(self, *kinds: str) -> int:
        """Requests of these kinds hang from now on."""
        return self._order('hold', *kinds)

    def latency(self, ms: float, *kinds: str):
        """Requests of these kinds take so long from now on."""
        self._order('latency', ms, *kinds)

    def free(self, *kinds: str):
        """All is well again, for these kinds or for all of them."""
        self._order('free', *kinds)

    def held(self) -> int:
        """How many requests hang."""
        return self._order('held')

    def blockdev(self, node: str) -> str:
        """A -blockdev value for this disk."""
        return (f'driver=nbd,node-name={node},server.type=unix,'
                f'server.path={self.path}')


class Lateness:
    """How late this machine let a process run that wants next to nothing.

    When something was too slow, it may have been the machine: see late.
    """

    def __init__(self):
        self.seen: list[tuple[float, float]] = []
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self):
        self._process = subprocess.Popen(
            [str(HERE / 'late')], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._process.stdout.readline()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self):
        for line in self._process.stdout:
            at, delay = line.split()
            self.seen.append((float(at), float(delay)))

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)
        self._thread.join()
        self._process.stdout.close()

    def worst(self, start: float, end: float) -> float:
        """The longest delay, in seconds, that lay in this interval or in part."""
        return max((delay for at, delay in self.seen
                    if at >= start and at - delay <= end), default=0)

    def total(self, start: float, end: float) -> float:
        """For how many seconds of this interval it was kept waiting."""
        return sum(max(0, min(at, end) - max(at - delay, start))
                   for at, delay in self.seen)
