# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a cell plays: a guest, its disk and network card, and two hosts

    source host (a)                      destination host (b)
    QEMU -- cable, or a pipe to "cat" -- QEMU
     |                                    |
     |-- vhost-user-sim                   |-- vhost-user-sim
     '---------- nbdgate ---- nbdkit -----'

The hosts are network namespaces, with a cable between them.  With a pipe they
are this host, and the source writes to "cat", which writes to a FIFO.

The buffers of sockets are small, so that a channel that takes nothing is
noticed at once and not after some megabytes.
"""

import asyncio
from contextlib import AsyncExitStack
import os
from pathlib import Path
import shutil
import time

from cell import (APPROACH, DRAIN_TIMEOUT, INFLIGHT_FREE,
                  ITERATION_LIMIT, PARALLEL, PIPE, READY, RETURN_PATH,
                  SAVE, Cell)
from channels import channels, inet, unix
from gate import NbdGate
from netns import Cable
import qmp
from reader import Reader, reader_of
from starved import RunDelay
from vhostsim import VhostSim
from vm import (HarnessError, Heart, Nbdkit, Vm, guest_args,
                socket_directory, until)

DRAIN_TIMEOUT_MS = 400
DOWNTIME_MS = 100
QUIESCE_WINDOW_MS = 1000        # a second, so that it can be hit
ITERATION_LIMIT_MS = 20
NO_LIMIT = 1 << 40              # bytes per second
# A destination that gets more than it can load does not answer meanwhile:
# QEMU's loading looks at the main loop when there is nothing to load, or every
# 32768 pages.  So the guest is small, for pages of zeroes cost no bandwidth.
BANDWIDTH = 40 << 20
RATE = '1gbit'
BUFFERS = '4096 32768 65536'
PORT = 4444                     # and the next one, for the return path
BOOTS_WITHIN_S = 90
ANSWERS_WITHIN_S = 4            # the monitor; after that the cell has failed
# Phases as an unpatched QEMU shows them
UNPATCHED = {'active': APPROACH, 'device': SAVE}
ENDS = {'completed', 'failed', 'cancelled'}

# What the guest does: disk requests, memory that is written, heartbeats
GUEST = {'hb': 10, 'think': 8000, 'depth': 4, 'blocks': 256, 'dirty': 8,
         'dirtybuf': 16}
MEMORY = '128M'


class Missed(Exception):
    """The fault did not come in the phase in which it was to come."""


class DoesNotApply(Exception):
    """There is no such cell, with this QEMU."""


class Silent(HarnessError):
    """The monitor does not answer."""


def has_return_path_channel(schema: list[dict]) -> bool:
    """Does this QEMU know channels of that type?"""
    return any({'main', RETURN_PATH} <=
               {member['name'] for member in entity.get('members', ())}
               for entity in schema if entity['meta-type'] == 'enum')


class Scene:
    """Made for one try of one cell.

    features: of the cell, those that this QEMU has
    at: when what happened, by name; seconds on time.monotonic()'s clock
    """

    def __init__(self, cell: Cell, binary: Path, directory: Path):
        self.cell = cell
        self.binary = binary
        self.directory = directory
        self.features: frozenset[str] = frozenset()
        self.at: dict[str, float] = {}
        self.source: Vm = None
        self.destination: Vm = None
        self.gate: NbdGate = None
        self.cable: Cable | None = None
        self.reader: Reader | None = None
        self.sims: dict[Vm, VhostSim] = {}
        self.heart: Heart = None
        self.delays: list[RunDelay] = []
        self._oob: dict[Vm, qmp.Connection] = {}
        self._sockets = socket_directory(directory)
        self._stack: AsyncExitStack | None = None

    # -- making it

    async def __aenter__(self):
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *details):
        await self._stack.__aexit__(*details)

    def out_of_band(self, vm: Vm, command: str,
                    arguments: dict | None = None):
        """A command that does not wait for the main loop; blocks for it."""
        connection = self._oob[vm]
        try:
            request = connection.ask(command, arguments, oob=True)
            connection.wait(request, ANSWERS_WITHIN_S)
            request.result()
        except qmp.QmpError as err:
            raise HarnessError(f'{vm.name}: {err}') from err

    def _forget_sockets(self):
        if self._sockets != self.directory:
            shutil.rmtree(self._sockets)

    async def _build(self, stack: AsyncExitStack):
        stack.callback(self._forget_sockets)
        if self.cell.fault != PIPE:
            self.cable = stack.enter_context(Cable(RATE))
            for end in self.cable.a, self.cable.b:
                end.sysctl('net.ipv4.tcp_wmem', BUFFERS)
                end.sysctl('net.ipv4.tcp_rmem', BUFFERS)
        disk = await stack.enter_async_context(
            Nbdkit(self.directory, plugin=['memory', '32M']))
        self.gate = await stack.enter_async_context(
            NbdGate(self._sockets, disk.path))
        self.source = await self._vm(stack, 'source')
        self.destination = await self._vm(stack, 'destination',
                                          '-incoming', 'defer')
        self.heart = Heart(self.source.serial, self.destination.serial)
        await self._find_features()
        await self._set_up()
        await self.source.serial.ready(BOOTS_WITHIN_S)

    async def _vm(self, stack: AsyncExitStack, name: str, *args: str) -> Vm:
        directory = self.directory / name
        directory.mkdir()
        options, sim = dict(GUEST), None
        if self.cell.has_backend:
            sim = stack.enter_context(VhostSim(directory, nics=1,
                                               reconnect_ms=100))
            args += tuple(sim.qemu_args(MEMORY))
            options['nics'] = 1
        enter = []
        if self.cable:
            end = self.cable.a if name == 'source' else self.cable.b
            enter = end.enter
        vm = Vm(name, directory, self.binary, [
            '-m', MEMORY, '-blockdev', self.gate.blockdev('disk0'),
            '-device', 'virtio-blk-pci,id=vda,drive=disk0,addr=0x10',
            '-chardev', f'socket,id=oob,path={self._sockets}/{name}-oob.sock,'
            'server=on,wait=off',
            '-mon', 'chardev=oob,mode=control',
            *guest_args('vda', **options), *args],
            before=self.source, enter=enter)
        if sim:
            self.sims[vm] = sim
        await stack.enter_async_context(vm)
        self.delays.append(stack.enter_context(
            RunDelay(vm.process.popen.pid)))
        # Now: later on the main loop may not be there to greet.
        self._oob[vm] = await asyncio.to_thread(
            qmp.connect, f'{self._sockets}/{name}-oob.sock', BOOTS_WITHIN_S,
            True)
        stack.callback(self._oob[vm].close)
        return vm

    async def _find_features(self):
        known = {c['capability'] for c in await self.source.execute(
            'query-migrate-capabilities')}
        known |= set(await self.source.execute('query-migrate-parameters'))
        if has_return_path_channel(await self.source.execute(
                'query-qmp-schema')):
            known.add(RETURN_PATH)
        self.features = frozenset(self.cell.features & known)
        why = self.cell.does_not_apply(known)
        if why:
            raise DoesNotApply(why)

    async def _set_up(self):
        both, parameters = ['events'], {'downtime-limit': DOWNTIME_MS,
                                        'max-bandwidth': BANDWIDTH}
        if self.cell.is_postcopy or READY in self.features:
            both.append('postcopy-ram')
        both += sorted(self.features & {PARALLEL, READY})
        for vm in self.source, self.destination:
            await vm.enable_capabilities(*both)
        alone = sorted(self.features & {INFLIGHT_FREE})
        if self.cell.phase == SAVE:
            alone.append('pause-before-switchover')
        if alone:
            await self.source.enable_capabilities(*alone)
        if DRAIN_TIMEOUT in self.features:
            parameters['drain-timeout'] = DRAIN_TIMEOUT_MS
        if ITERATION_LIMIT in self.features:
            parameters['iteration-limit'] = ITERATION_LIMIT_MS
        if INFLIGHT_FREE in self.features:
            parameters['quiesce-window'] = QUIESCE_WINDOW_MS
        await self.source.execute('migrate-set-parameters', parameters)

    # -- migrating

    def channels(self, is_source: bool, port: int = PORT) -> dict:
        if self.cable:
            main = inet(port, self.cable.b.address)
            back = inet(port + 1, self.cable.b.address)
        else:
            fifo = str(self.directory / 'fifo')
            main = {'transport': 'exec', 'args': [
                '/bin/sh', '-c', f'exec cat {">" if is_source else "<"} {fifo}'
            ]}
            back = unix(self._sockets / 'back.sock')
        return channels(main, back if RETURN_PATH in self.features else None)

    async def migrate(self):
        if not self.cable:
            os.mkfifo(self.directory / 'fifo')
        await self.destination.execute('migrate-incoming',
                                       self.channels(False))
        self.note('migrate')
        await self.source.execute('migrate', self.channels(True))
        if not self.cable:
            self.reader = await reader_of(self.source)
            self._stack.enter_context(self.reader)

    def note(self, name: str) -> float:
        """It happens now."""
        self.at[name] = now = time.monotonic()
        return now

    async def set(self, **parameters):
        """Of the migration, at the source; max_bandwidth=..."""
        await self.source.execute(
            'migrate-set-parameters',
            {name.replace('_', '-'): value
             for name, value in parameters.items()})

    async def look(self) -> tuple[str, str, dict]:
        """The source's status, phase, and all that query-migrate says."""
        try:
            info = await asyncio.wait_for(
                self.source.execute('query-migrate'), ANSWERS_WITHIN_S)
        except asyncio.TimeoutError:
            raise Silent('the source does not answer query-migrate within '
                         f'{ANSWERS_WITHIN_S} s') from None
        status = info.get('status', 'none')
        if 'switchover' in info:
            return status, info['switchover']['phase'], info
        return status, UNPATCHED.get(status, ''), info

    async def until_phase(self, phase: str, timeout: float = 30) -> dict:
        """Until the source is in it; return query-migrate's answer."""
        deadline = time.monotonic() + timeout
        while True:
            status, seen, info = await self.look()
            if seen == phase and status not in ENDS:
                return info
            if status in ENDS:
                raise Missed(f'the migration has {status} before anybody saw '
                             f'phase {phase}')
            if time.monotonic() > deadline:
                raise Missed(f'phase {phase} was not seen within {timeout:g} '
                             's')
            await asyncio.sleep(0.001)

    async def until_status(self, *statuses: str, timeout: float = 30):
        """Until the source has told of one of these; return the event."""
        def found():
            self.source.process.check()
            return next((e for e in self.source.events
                         if e.name == 'MIGRATION' and
                         e.data['status'] in ENDS | set(statuses) and
                         e.at >= self.at['migrate']), None)
        event = await until(found, timeout,
                            f'the migration to be {" or ".join(statuses)}')
        if event.data['status'] not in statuses:
            raise Missed(f'migration {event.data["status"]} before '
                         f'{statuses[0]}')
        return event

    def ended(self):
        """The event that the migration has ended, or None."""
        return next((e for e in self.source.events if e.name == 'MIGRATION' and
                     e.data['status'] in ENDS), None)

    def ended_after(self, at: float) -> bool:
        """It has, and not before then."""
        event = self.ended()
        return event is not None and event.at >= at

    # -- what became of it

    async def state_of(self, vm: Vm) -> str:
        """Its run state, or that it is gone."""
        if vm.process.running:
            try:
                return (await vm.execute('query-status', timeout=10))['status']
            except HarnessError:
                # It may be about to end.
                await until(lambda: not vm.process.running, 5,
                            f'{vm.name} to answer, or to end')
        return 'gone'
