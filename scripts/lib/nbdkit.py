# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that can be made to hang"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
import shutil
import time

from process import HarnessError, Process, socket_directory, until


class Nbdkit:
    """An NBD server whose disk can be made to hang (nbdkit, pause filter).

    @plugin: plugin and its parameters, a memory disk by default
    @extra: more arguments for nbdkit, before the plugin (other filters)
    """

    def __init__(self, directory: Path, name: str = 'nbdkit',
                 plugin: Sequence[str] = ('memory', '256M'),
                 extra: Sequence[str] = ()):
        self.process = Process(name, directory)
        self.command = [*extra, *plugin]
        self.sockets = socket_directory(directory)
        self.path = self.sockets / f'{name}.sock'
        self.control = self.sockets / f'{name}-control.sock'
        self.pidfile = self.sockets / f'{name}.pid'

    def _unlink(self):
        for path in (self.path, self.control, self.pidfile):
            path.unlink(missing_ok=True)

    async def __aenter__(self):
        if not shutil.which('nbdkit'):
            raise HarnessError('nbdkit is not installed')
        self._unlink()
        self.process.spawn(['nbdkit', '-f',
                            '-U', self.path, '-P', self.pidfile,
                            '--filter=pause', *self.command,
                            f'pause-control={self.control}'])
        try:
            await until(self._is_up, 10, 'nbdkit to listen')
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _is_up(self) -> bool:
        self.process.check()
        return self.pidfile.exists() and self.control.exists()

    async def __aexit__(self, *_):
        # A paused server keeps requests, and would wait for them on SIGTERM.
        await self.process.end(grace=0)
        self._unlink()
        if self.sockets != self.process.directory:
            self.sockets.rmdir()

    async def _order(self, order: bytes, timeout: float) -> float:
        """Send an order, wait until it has taken effect, return that time."""
        async def talk():
            reader, writer = await asyncio.open_unix_connection(self.control)
            try:
                writer.write(order)
                return await reader.readexactly(1)
            finally:
                writer.close()
        try:
            answer = await asyncio.wait_for(talk(), timeout)
        except (OSError, EOFError, asyncio.TimeoutError) as err:
            raise HarnessError(f'nbdkit control: {err!r}') from err
        if answer != order.upper():
            raise HarnessError(f'nbdkit control answered {answer!r}')
        return time.monotonic()

    async def pause(self, timeout: float = 10) -> float:
        """Let requests in progress finish, then answer none.

        Returns when it took effect.
        """
        return await self._order(b'p', timeout)

    async def resume(self, timeout: float = 10) -> float:
        """Answer the requests that waited, and new ones."""
        return await self._order(b'r', timeout)

    def blockdev(self, node: str) -> str:
        """A -blockdev value for this disk."""
        return (f'driver=nbd,node-name={node},server.type=unix,'
                f'server.path={self.path}')
