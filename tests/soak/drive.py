# SPDX-License-Identifier: GPL-2.0-or-later
"""One migration, from "migrate-incoming" to its end, as a manager would do it

The source's status, by its events, is what everything is decided by: for each
that wants something done there is a method on_STATUS().
"""

import asyncio
import time

from channels import channels, inet, unix
from faults import Faults
from plan import SLOW, Turn
from rig import Rig
from vm import HarnessError, Vm, until

ENDS = ('completed', 'failed', 'cancelled')
READY_TIMEOUT_MS = 300

# What is set in each turn, or not: a source remembers the turn before.
CAPABILITIES = ('events', 'inflight-free-switchover',
                'parallel-vmstate-change', 'return-path',
                'pause-before-switchover', 'multifd', 'dirty-bitmaps',
                'postcopy-ram', 'postcopy-ready', 'postcopy-preempt')
FOR_SOURCE = ('inflight-free-switchover', 'pause-before-switchover')


def capabilities(turn: Turn) -> set[str]:
    """Those that the source has."""
    wanted = {'events', 'inflight-free-switchover', 'parallel-vmstate-change'}
    for name, condition in (
            ('return-path', turn.return_path),
            ('pause-before-switchover', turn.pauses),
            ('multifd', turn.kind == 'multifd'),
            ('dirty-bitmaps', turn.bitmaps),
            ('postcopy-ram', turn.postcopy),
            ('postcopy-ready', turn.ready),
            ('postcopy-preempt', 'preempt' in turn.kind)):
        if condition:
            wanted.add(name)
    return wanted


def parameters(turn: Turn) -> dict:
    """Those of the source."""
    return {
        'max-bandwidth': turn.bandwidth,
        'max-postcopy-bandwidth': turn.postcopy_bandwidth,
        # What is to be backed out of in a hold may not converge before
        'downtime-limit': 1 if turn.stays and turn.ready else 300,
        'multifd-channels': 2,
        'drain-timeout': turn.drain_timeout,
        'drain-timeout-action':
            'fail' if turn.fault == 'drain-fail' else 'retry',
        'quiesce-window': turn.quiesce_window,
        'quiesce-interval': 200,
        'iteration-limit': turn.iteration_limit,
        'stall-threshold': turn.stall_threshold,
        'postcopy-after-passes': 1 if 'passes' in turn.kind else 0,
        'postcopy-ready-timeout':
            READY_TIMEOUT_MS if turn.fault == 'hold-timeout' else 0,
    }


class Drive:
    """A turn that is under way.

    began, ended: when "migrate" was given, and when the source said the end
    status: what it said
    done: what was done on the way, for the log
    """

    def __init__(self, turn: Turn, rig: Rig, source: Vm, destination: Vm,
                 faults: Faults):
        self.turn = turn
        self.rig = rig
        self.source = source
        self.destination = destination
        self.faults = faults
        self.began = self.ended = 0.0
        self.status = ''
        self.done: list[str] = []
        self._seen = len(source.events)
        self._recoveries = 0

    # -- before

    async def prepare(self):
        """Capabilities and parameters of both, and the destination listens."""
        wanted = capabilities(self.turn)
        await self._set(self.source, wanted)
        await self.source.execute('migrate-set-parameters',
                                  parameters(self.turn))
        refusing = {'postcopy-ram', 'postcopy-ready', 'postcopy-preempt'} \
            if self.turn.fault == 'refused' else set()
        await self._set(self.destination,
                        wanted - set(FOR_SOURCE) - refusing)
        await self.destination.execute('migrate-set-parameters',
                                       {'multifd-channels': 2})
        await self.destination.execute('migrate-incoming', {
            **self._listen('migrate'),
            'exit-on-error': not self.turn.patient})

    @staticmethod
    async def _set(vm: Vm, wanted: set[str]):
        await vm.execute('migrate-set-capabilities', {'capabilities': [
            {'capability': name, 'state': name in wanted}
            for name in CAPABILITIES]})

    def _listen(self, name: str) -> dict:
        """Channels for a destination, with ports that it chooses itself."""
        if self.turn.tcp and name == 'migrate':
            return self._channels(inet(0, '127.0.0.1'), inet(0, '127.0.0.1'))
        for kind in ('main', 'rp'):
            (self.rig.directory / f'{name}-{kind}.sock').unlink(missing_ok=True)
        return self._connect(name)

    async def _address(self) -> dict:
        """Where the source has to connect to."""
        if self.turn.fault == 'nobody':
            return self._connect('nobody')
        if not self.turn.tcp:
            return self._connect('migrate')
        info = await self.destination.execute('query-migrate')
        found = [{'transport': 'socket', **info['socket-address'][0]}]
        if self.turn.channel:
            found.append({'transport': 'socket',
                          **info['return-path-address'][0]})
        return channels(*(found + [None])[:2])

    def _connect(self, name: str) -> dict:
        return self._channels(unix(f'{name}-main.sock'),
                              unix(f'{name}-rp.sock'))

    def _channels(self, main: dict, return_path: dict) -> dict:
        return channels(main, return_path if self.turn.channel else None)

    # -- under way

    async def run(self, timeout: float):
        """Until the source says that it is over."""
        address = await self._address()
        if self.turn.fault == 'drain-fail':
            async with self.faults.hanging():
                await self._run(address, timeout)
        else:
            await self._run(address, timeout)

    async def _run(self, address: dict, timeout: float):
        self.began = time.monotonic()
        self.faults.start()
        await self.source.execute('migrate', address)
        deadline = self.began + timeout
        while self.status not in ENDS:
            if time.monotonic() > deadline:
                raise HarnessError(f'the migration did not end within '
                                   f'{timeout:g} s: {self._story()}')
            self.source.process.check()
            for event in self.source.events[self._seen:]:
                self._seen += 1
                if event.name == 'MIGRATION':
                    self.status = event.data['status']
                    self.ended = event.at
                    await self._react()
            if self.status == 'postcopy-paused' and \
                    self.turn.fault != 'recover':
                raise HarnessError('nobody broke the connection, and it is: '
                                   f'{self._story()}')
            await asyncio.sleep(0.005)

    def _story(self) -> str:
        return ', '.join([*self.done, *self.faults.notes, self.status])

    async def _react(self):
        self.done.append(self.status)
        method = getattr(self, 'on_' + self.status.replace('-', '_'), None)
        if method:
            try:
                await method()
            except HarnessError as err:
                # It may have ended meanwhile: then that will be said.
                self.source.process.check()
                self.faults.notes.append(str(err))

    async def on_active(self):
        if self.turn.postcopy and 'passes' not in self.turn.kind and \
                self.turn.bandwidth != SLOW:
            await asyncio.sleep(self.turn.begin)
            await self.source.execute('migrate-start-postcopy')

    async def on_pre_switchover(self):
        if self.turn.fault == 'switchover-cancel':
            await self.faults.cancel()
            return
        if self.turn.fault == 'switchover-kill':
            # Which nobody has to notice before there is something to send.
            await self.faults.kill()
        await self.source.execute('migrate-continue',
                                  {'state': 'pre-switchover'})

    async def on_postcopy_ready(self):
        await asyncio.sleep(self.turn.hold)
        if self.turn.fault == 'hold-cancel':
            await self.faults.cancel()
        elif self.turn.fault == 'hold-kill':
            await self.faults.kill()
        elif self.turn.fault == 'hold-timeout':
            pass
        elif self.turn.by_destination:
            await self.destination.execute('cont')
        else:
            await self.source.execute('migrate-continue',
                                      {'state': 'postcopy-ready'})

    async def on_postcopy_active(self):
        if self.turn.fault == 'recover' and not self._recoveries:
            if not self.turn.ready:
                # Nothing can be recovered before: it is what a hold is for.
                await self.destination.wait_event('RESUME', 20)
            await asyncio.sleep(self.turn.at / 4)
            await self.source.execute('migrate-pause', oob=True)

    async def on_postcopy_paused(self):
        """Both sides have to be; but the destination may have it all."""
        last = await until(self._destination_stands, 20,
                           'the destination to notice')
        if last == 'completed':
            self.status = 'completed'
            return
        self._recoveries += 1
        name = f'recover{self._recoveries}'
        listen = self._listen(name)
        where = listen if self.turn.channel else \
            {'uri': f'unix:{name}-main.sock'}
        await self.destination.execute('migrate-recover', where, oob=True)
        await self.source.execute('migrate', {**self._connect(name),
                                              'resume': True})

    def _destination_stands(self) -> str:
        self.destination.process.check()
        said = [e.data['status'] for e in self.destination.events
                if e.name == 'MIGRATION']
        return said[-1] if said and \
            said[-1] in ('postcopy-paused', 'completed') else ''
