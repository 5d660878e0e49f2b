# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults: how each is made, how it is seen to be there, and how it ends"""

import asyncio
from pathlib import Path
import signal
import time

import cell as c
from scene import Scene

SHOWS_WITHIN_S = 1.0


def process_state(pid: int) -> str:
    """The letter of /proc: T is stopped; nothing if there is none."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text(encoding='ascii')
    except OSError:
        return ''
    return stat.rpartition(')')[2].split()[0]


class Fault:
    """One of a scene."""

    can_end = True

    def __init__(self, scene: Scene):
        self.scene = scene

    @property
    def is_before(self) -> bool:
        """It has to be there before the phase begins, to strike in it."""
        return False

    async def begin(self):
        """From now on."""
        raise NotImplementedError

    async def evidence(self) -> str:
        """That it is there, in words; nothing if it is not."""
        raise NotImplementedError

    async def end(self):
        """All is well again."""


class StuckRequest(Fault):
    """Requests of one kind hang."""

    kind = ''

    @property
    def is_before(self) -> bool:
        # The guest has been stopped: there will be no reads but those that
        # hang already.  A flush comes in the drain, from QEMU.
        return (self.kind == 'read' and
                self.scene.cell.phase in (c.STOP, c.DRAIN))

    async def begin(self):
        self.scene.gate.hold(self.kind)

    async def evidence(self) -> str:
        # Where nobody asks, it is still there for whoever asks next: QEMU,
        # which flushes at the end of a window and in the drain.
        deadline = time.monotonic() + SHOWS_WITHIN_S
        may_be_idle = self.scene.cell.phase != c.APPROACH and (
            self.kind == 'flush' or self.scene.cell.phase != c.QUIESCE)
        while not (held := self.scene.gate.held()) and not may_be_idle:
            if time.monotonic() > deadline:
                return ''
            await asyncio.sleep(0.002)
        return f'{held} requests hang' if held else 'armed, nobody asks'

    async def end(self):
        self.scene.gate.free()


class StuckRead(StuckRequest):
    kind = 'read'


class StuckFlush(StuckRequest):
    kind = 'flush'


class BackendFault(Fault):
    @property
    def sim(self):
        """The one that the guest's card has at the moment."""
        scene = self.scene
        return scene.sims[scene.destination if scene.cell.phase == c.ACTIVE
                          else scene.source]


class BackendStopped(BackendFault):
    async def begin(self):
        self.sim.stop()

    async def evidence(self) -> str:
        return 'stopped' if process_state(self.sim.pid) == 'T' else ''

    async def end(self):
        self.sim.go_on()


class BackendKilled(BackendFault):
    async def begin(self):
        self.sim.kill()

    async def evidence(self) -> str:
        return 'dead' if process_state(self.sim.pid) in ('', 'Z') else ''

    async def end(self):
        self.sim.restart()


class PipeStalled(Fault):
    @property
    def is_before(self) -> bool:
        # See phases.Save: it is what makes that phase last.
        return self.scene.cell.phase == c.SAVE

    async def begin(self):
        if self.scene.reader:
            self.scene.reader.stop()

    async def evidence(self) -> str:
        state = process_state(self.scene.reader.pid)
        return 'reader stopped' if state == 'T' else ''

    async def end(self):
        self.scene.reader.go_on()


class PeerStopped(Fault):
    async def begin(self):
        self.scene.destination.process.popen.send_signal(signal.SIGSTOP)

    async def evidence(self) -> str:
        pid = self.scene.destination.process.popen.pid
        return 'stopped' if process_state(pid) == 'T' else ''

    async def end(self):
        self.scene.destination.process.popen.send_signal(signal.SIGCONT)


class DestinationKilled(Fault):
    can_end = False

    async def begin(self):
        self.scene.destination.process.popen.kill()

    async def evidence(self) -> str:
        return '' if self.scene.destination.process.running else 'dead'


class LinkCut(Fault):
    async def begin(self):
        self.scene.cable.a.plug(False)

    async def evidence(self) -> str:
        return '' if self.scene.cable.a.has_carrier() else 'no carrier'

    async def end(self):
        self.scene.cable.a.plug(True)


FAULTS = {c.READ: StuckRead, c.FLUSH: StuckFlush,
          c.BACKEND_STOPPED: BackendStopped, c.BACKEND_KILLED: BackendKilled,
          c.PIPE: PipeStalled, c.PEER: PeerStopped,
          c.KILLED: DestinationKilled, c.LINK: LinkCut}
