# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces with a link of a limited rate between them

    async with Link(mbit=1000) as link:
        Vm('source', ..., prefix=link.ends[0].prefix)
        ... 'tcp:' + link.ends[1].address + ':4444'

Nobody else is on that link, and nothing else can be reached from there.  Each
namespace lives as long as a process that only waits for its end, which comes
when this script ends, however it does.  Needs root.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
import os
import shutil

from vm import HarnessError

# What the shaper lets through at once, and how long its queue is
BURST = '128kb'
QUEUE = '20ms'


@dataclass
class End:
    """One namespace; prefix: what runs a command in it."""
    holder: asyncio.subprocess.Process
    device: str
    address: str

    @property
    def prefix(self) -> list[str]:
        return ['nsenter', '--net', '--target', str(self.holder.pid), '--']


async def run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    said = (await process.communicate())[0].decode(errors='replace').strip()
    if process.returncode:
        raise HarnessError(f'{" ".join(argv)}: {said}')
    return said


def missing() -> str | None:
    """What keeps namespaces from being made here."""
    if os.geteuid():
        return 'network namespaces need root'
    for tool in 'ip', 'tc', 'nsenter', 'unshare':
        if not shutil.which(tool):
            return f'there is no {tool} (packages iproute2 and util-linux)'
    return None


class Link:
    """An asynchronous context manager.

    @mbit: per second, in each direction
    """

    def __init__(self, mbit: int):
        self.mbit = mbit
        self.ends: list[End] = []
        self._stack = AsyncExitStack()

    async def _hold(self, device: str, address: str) -> End:
        # "cat" says that the namespace is there, and ends with its input.
        holder = await asyncio.create_subprocess_exec(
            'unshare', '--net', 'cat', stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE)
        self._stack.push_async_callback(holder.wait)
        self._stack.callback(holder.stdin.close)
        holder.stdin.write(b'\n')
        if await holder.stdout.readline() != b'\n':
            raise HarnessError('unshare --net failed')
        return End(holder, device, address)

    async def _configure(self, end: End):
        for command in (
                'ip link set dev lo up',
                f'ip address add {end.address}/30 dev {end.device}',
                f'ip link set dev {end.device} up',
                f'tc qdisc add dev {end.device} root tbf rate {self.mbit}mbit '
                f'burst {BURST} latency {QUEUE}'):
            await run(*end.prefix, *command.split())

    async def _make(self):
        self.ends = [await self._hold('so0', '10.0.0.1'),
                     await self._hold('so1', '10.0.0.2')]
        here, there = self.ends
        await run('ip', 'link', 'add', 'name', here.device,
                  'netns', str(here.holder.pid), 'type', 'veth',
                  'peer', 'name', there.device,
                  'netns', str(there.holder.pid))
        for end in self.ends:
            await self._configure(end)

    async def __aenter__(self):
        try:
            await self._make()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *unused):
        await self._stack.aclose()
