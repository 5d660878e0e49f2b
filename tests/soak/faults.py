# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done to a migration: disks hang, the destination stops or dies, ...

Each fault is a task that waits for its moment, does what it has to, and takes
it back.  A disk is always released, unless that is what the soak is to notice.
"""

import asyncio
from contextlib import asynccontextmanager
import os
import signal
import time

from plan import Turn
from rig import Rig
from vm import HarnessError, Vm


class Faults:
    """Those of one turn.

    @release: whether disks that hang are released
    killed: the destination was
    cancelled_at: when migrate_cancel was given, and not refused
    """

    def __init__(self, turn: Turn, rig: Rig, source: Vm, destination: Vm,
                 release: bool = True):
        self.turn = turn
        self.rig = rig
        self.source = source
        self.destination = destination
        self.release = release
        self.killed = False
        self.cancelled_at: float | None = None
        self.notes: list[str] = []
        self._tasks: list[asyncio.Task] = []
        self._hanging: list = []

    def start(self):
        """From here on the moments are counted; before "migrate"."""
        turn = self.turn
        if turn.has('disk'):
            self._after(turn.at, self.hang_disks)
        if turn.has('peer'):
            self._after(turn.at, self.stop_peer)
        if turn.has('cancel'):
            # While what else there is lasts.
            later = turn.lasts / 2 if '+' in turn.fault else 0
            self._after(turn.at + later, self.cancel)
        if turn.has('kill'):
            self._after(turn.at, self.kill)

    def _after(self, delay: float, fault):
        async def later():
            await asyncio.sleep(delay)
            await fault()
        self._tasks.append(asyncio.create_task(later()))

    async def finish(self):
        """Wait until all is over; raises what went wrong."""
        await asyncio.gather(*self._tasks)

    async def abandon(self):
        """Whatever happens, nothing is left stuck."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.release_disks()

    # -- what there is

    @asynccontextmanager
    async def hanging(self):
        """One disk hangs, or both."""
        which = self.turn.disk
        disks = self.rig.disks if which is None else [self.rig.disks[which]]
        self._hanging += disks
        for disk in disks:
            await disk.pause()
        try:
            yield
        finally:
            await self.release_disks()

    async def release_disks(self):
        if self.release:
            while self._hanging:
                await self._hanging.pop().resume()

    async def hang_disks(self):
        async with self.hanging():
            await asyncio.sleep(self.turn.lasts)

    async def stop_peer(self):
        process = self.destination.process
        if process.running:
            os.kill(process.popen.pid, signal.SIGSTOP)
            await asyncio.sleep(self.turn.lasts)
            os.kill(process.popen.pid, signal.SIGCONT)

    async def kill(self):
        self.killed = True
        self.destination.process.popen.kill()

    async def cancel(self):
        at = time.monotonic()
        try:
            await self.source.execute('migrate_cancel')
            self.cancelled_at = at
        except HarnessError as err:
            # In post-copy, once it cannot be backed out of.
            self.source.process.check()
            self.notes.append(str(err))
