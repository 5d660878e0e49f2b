# SPDX-License-Identifier: GPL-2.0-or-later
"""What the soak has to notice: to see that it does, it is done on purpose

Nothing of this is in QEMU: each is done from outside, by way of the monitor or
of the disk, and looks like the fault that it stands for.
"""

from dataclasses import dataclass
import os
import signal

from plan import Turn

BUFFER = 1 << 18                # bytes that a turn takes and keeps
MOVING, STAYING = 1, 31         # turns where such a stretch begins


@dataclass(frozen=True)
class Expected:
    """How a break is noticed.

    @words: a part of what has to be said; one of them
    @first: the turn to begin with
    """
    words: tuple[str, ...]
    first: int = STAYING


BREAKS = {
    'descriptor': Expected(('descriptor /dev/null',)),
    'thread': Expected(('thread IO left',)),
    'memory': Expected(('grows by',)),
    'bitmap': Expected(('left over',)),
    'lost-bits': Expected(('dirty bytes, less than',)),
    'block': Expected(('expected generation',)),
    'beat': Expected(('was followed by',)),
    # By its bound: nobody waits for ever
    'disk': Expected(('did not end within', 'waited'), MOVING),
    'owner': Expected(('has the guest, not',), MOVING),
    'status': Expected(('status -9',), MOVING),
}


class Break:
    """One of BREAKS.

    @first: the turn after which it begins
    """

    def __init__(self, name: str, first: int):
        self.name = name
        self.first = first

    def releases(self, turn: Turn) -> bool:
        """Are disks that hang released?"""
        return self.name != 'disk' or turn.number <= self.first

    async def before(self, turn: Turn, chain):
        """The migration is about to begin."""
        if turn.number <= self.first:
            return
        vm, number = chain.vm, turn.number
        if self.name == 'descriptor':
            await vm.execute('chardev-add', {
                'id': f'left{number}', 'backend': {
                    'type': 'file', 'data': {'out': '/dev/null'}}})
        elif self.name == 'thread':
            await vm.execute('object-add', {
                'qom-type': 'iothread', 'id': f'left{number}'})
        elif self.name == 'memory':
            await self._take_memory(vm, number)
        elif self.name == 'bitmap':
            await vm.execute('block-dirty-bitmap-add', {
                'node': 'disk0', 'name': f'left{number}'})
        elif self.name == 'block':
            chain.rig.overwrite()

    @staticmethod
    async def _take_memory(vm, number: int):
        """A buffer, filled."""
        await vm.execute('chardev-add', {
            'id': f'left{number}', 'backend': {
                'type': 'ringbuf', 'data': {'size': BUFFER}}})
        await vm.execute('ringbuf-write', {
            'device': f'left{number}', 'data': 'x' * (BUFFER - 1)})

    async def after(self, turn: Turn, drive):
        """It is over, and what came of it has not been looked at."""
        if turn.number <= self.first:
            return
        moved = drive.status == 'completed'
        if self.name == 'lost-bits' and not turn.clear:
            owner = drive.destination if moved else drive.source
            await owner.execute('block-dirty-bitmap-clear', {
                'node': 'disk1', 'name': 'keep'})
        elif self.name == 'beat':
            drive.source.serial.beats.pop(len(drive.source.serial.beats) // 2)
        elif self.name == 'owner' and moved:
            await drive.source.execute('cont')
        elif self.name == 'status' and moved:
            os.kill(drive.source.process.popen.pid, signal.SIGKILL)
