# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk of which only some requests hang: the other end of nbdgate"""

from pathlib import Path
import subprocess

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
