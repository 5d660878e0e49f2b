# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that is saved through a dd that stalls, to its end or until cancelled"""

import asyncio
from pathlib import Path
import random
import time

from frozendisk import FrozenDisk
from reader import Reader, reader_of
from throughput import BUFFER_MIB, HANGS_AFTER_S, MIB
from vm import HarnessError, Vm, until

STALL_S = 5
CANCEL_AFTER_S = 1
RAM, COMPLETION = 'RAM', 'completion'


class Save:
    """A guest that is saved through dd, which can be stopped."""

    def __init__(self, vm: Vm, path: Path, dice: random.Random,
                 disk: FrozenDisk | None):
        self.vm = vm
        self.path = path
        self.dice = dice
        self.disk = disk
        self.begun = 0.0

    async def begin(self) -> Reader:
        self.begun = time.monotonic()
        await self.vm.execute('migrate', {
            'uri': 'exec:exec dd bs=1M iflag=fullblock oflag=direct '
                   f'conv=notrunc status=none of={self.path}'})
        return await reader_of(self.vm, self.disk)

    async def middle(self):
        """Until somewhere in the middle of the memory."""
        goal = self.dice.uniform(0.2, 0.7) * BUFFER_MIB * MIB
        deadline = time.monotonic() + HANGS_AFTER_S
        while time.monotonic() < deadline:
            info = await self.vm.execute('query-migrate')
            if info['status'] not in ('setup', 'active'):
                raise HarnessError(f'migration {info["status"]} too early')
            if info.get('ram', {}).get('transferred', 0) > goal:
                return
            await asyncio.sleep(0.005)
        raise HarnessError('no memory is sent')

    async def status(self, *names: str):
        """The event that this migration has come so far."""
        def condition(data):
            return data['status'] in {*names, 'failed'}
        event = await self.vm.wait_event('MIGRATION', HANGS_AFTER_S, condition,
                                         self.begun)
        if event.data['status'] not in names:
            raise HarnessError(f'migration {event.data["status"]}')
        return event

    async def complete(self, reader: Reader) -> asyncio.Task:
        """Go into the completion with a reader that is stopped.

        Returns the question that started it: an unpatched QEMU may not answer
        while it lasts.
        """
        await self.status('pre-switchover')
        reader.stop()
        return asyncio.create_task(self.vm.execute(
            'migrate-continue', {'state': 'pre-switchover'}))


async def stalled_ms(vm: Vm, reader: Reader) -> float:
    """Let the stall last; the monitor's longest answer in it."""
    begin = time.monotonic()
    await asyncio.sleep(STALL_S)
    worst = vm.prober.worst(begin, time.monotonic() + 1)
    reader.go_on()
    return worst * 1000


async def save_with_stalls(save: Save) -> tuple[float, float]:
    """The monitor's longest answers, in RAM and in the completion."""
    with await save.begin() as reader:
        await save.middle()
        reader.stop()
        in_ram = await stalled_ms(save.vm, reader)
        question = await save.complete(reader)
        in_completion = await stalled_ms(save.vm, reader)
        await question
        await save.status('completed')
    return in_ram, in_completion


async def cancel(save: Save, reader: Reader) -> tuple[float | None, bool]:
    """Cancel what stalls: how long that takes, is the reader left."""
    await asyncio.sleep(CANCEL_AFTER_S)
    # For those that cannot be cancelled before.
    timer = asyncio.get_running_loop().call_later(STALL_S - CANCEL_AFTER_S,
                                                  reader.go_on)
    asked = time.monotonic()
    await save.vm.execute('migrate_cancel')
    event = await save.status('cancelled', 'completed')
    timer.cancel()
    if event.data['status'] == 'completed':
        return None, False
    beats = len(save.vm.serial.beats)
    await until(lambda: len(save.vm.serial.beats) > beats, 10,
                'the guest to go on')
    left = False
    if not reader.can_be_killed:
        reader.go_on()
    try:
        await until(lambda: reader.gone and not save.vm.process.children(), 2,
                    'the reader to end')
    except HarnessError:
        left = True
    return (event.at - asked) * 1000, left


async def cancel_in(where: str, save: Save) -> tuple[float | None, bool]:
    with await save.begin() as reader:
        if where == RAM:
            await save.middle()
            reader.stop()
            return await cancel(save, reader)
        question = await save.complete(reader)
        result = await cancel(save, reader)
        await question
        return result
