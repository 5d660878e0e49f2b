# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with slow disks, and what was noted while it was migrated

The disks are nbdkit's, in memory, behind the delay filter.  Writes are what
it delays; the guest reads only to boot and to verify.  The filter (of nbdkit
1.32) cannot delay flushes: with a real disk of that latency the unpatched
QEMU, which flushes while the guest is stopped, would take longer than here.

QEMU's NBD client has 16 requests in flight at most, so depth is spread over
four disks.  All requests of the guest begin at about the same time, and with
a latency that is always the same they would all end and begin again together
for ever: unlike those of any real guest, and with moments without any request
in flight.  So the disks are put out of step by a quarter of the latency.

What the guest gets done is counted by the disks, in the log of nbdkit's log
filter.  Asking the guest is no way to know it during a switchover: a command
may be on its way through the serial port just then.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
import time

from bench import ratio
from disklog import DiskLog
from vm import HarnessError, Heart, Nbdkit, Vm, guest_args, until

DISKS = 4
REQUESTS_PER_DISK = 16          # of QEMU's NBD client

ON, OFF, STOCK = 'on', 'off', 'stock'

QUIESCE_WINDOW_MS = 1000
# This is about disks.  With the default, 300 ms, much memory may be left to
# send when the guest is stopped: more or less, by chance.
PARAMETERS = {'max-bandwidth': 1 << 62, 'downtime-limit': 20}

INTERVAL = 1.0          # seconds to count requests in, before and at the end
AFTERLIFE_BEATS = 30    # heartbeats from the destination to wait for


@dataclass(frozen=True)
class Config:
    """A kind of disk and what the guest does with it."""
    latency_ms: int
    depth: int

    @property
    def disks(self) -> int:
        return DISKS if self.depth % DISKS == 0 else 1

    @property
    def depth_per_disk(self) -> int:
        return self.depth // self.disks

    @property
    def name(self) -> str:
        return f'{self.latency_ms} ms x {self.depth}'


@dataclass
class Result:
    """One migration.

    downtime_ms: as QEMU reports it
    silence_ms: longest time without a heartbeat around the switchover
    calm_ms: the same during the interval before the migration
    lull_ms: longest time without a new request at the disks, likewise around
    in_flight: requests at the disks, mean of the interval before the migration
    answered, begun: requests that were, in the interval before the guest was
        stopped, as a share of those in the interval before the migration
    rate: requests answered per second in the interval before the migration
    hold_ms, windows, hits: of query-migrate's switchover.quiesce
    in_flight_at_stop, attempts, phases: of query-migrate's switchover
    """
    config: Config
    variant: str
    turn: int
    downtime_ms: float
    silence_ms: float
    calm_ms: float
    lull_ms: float
    in_flight: float
    answered: float | None
    begun: float | None
    rate: float
    total_ms: int
    hold_ms: int | None = None
    windows: int | None = None
    hits: int | None = None
    in_flight_at_stop: int | None = None
    attempts: int | None = None
    phases: list[dict] | None = None


@dataclass(frozen=True)
class Taken:
    """What was noted during one migration; @begun: when it began."""
    variant: str
    source: Vm
    destination: Vm
    begun: float
    info: dict

    def result(self, config: Config, turn: int, log: DiskLog) -> Result:
        heart = Heart(self.source.serial, self.destination.serial)
        stopped = self.source.serial.beats[-1].at
        around = heart.switchover()
        before = (self.begun - INTERVAL, self.begun)
        at_end = (stopped - INTERVAL, stopped)
        result = Result(
            config, self.variant, turn,
            downtime_ms=self.info['downtime'],
            silence_ms=heart.longest_gap(*around)[1] * 1000,
            calm_ms=heart.longest_gap(*before)[1] * 1000,
            lull_ms=log.longest_lull(at_end[0], around[1]) * 1000,
            in_flight=log.mean_in_flight(*before),
            answered=ratio(log.answers(*at_end), log.answers(*before)),
            begun=ratio(log.arrivals(*at_end), log.arrivals(*before)),
            rate=log.answers(*before) / INTERVAL,
            total_ms=self.info['total-time'])
        self._add_switchover(result)
        return result

    def _add_switchover(self, result: Result):
        switchover = self.info.get('switchover')
        if not switchover:
            return
        result.in_flight_at_stop = switchover['in-flight-at-stop']
        result.attempts = switchover['attempts']
        result.phases = switchover['phases']
        if self.variant == ON:
            quiesce = switchover['quiesce']
            result.hold_ms = quiesce['max-ms']
            result.windows, result.hits = quiesce['windows'], quiesce['hits']


class Life:
    """A guest from boot on, migrated once for each of @variants.

    @show: called with what goes on, in words
    """

    def __init__(self, config: Config, binary: Path, variants: Sequence[str],
                 directory: Path, show):
        self.config = config
        self.binary = binary
        self.variants = variants
        self.directory = directory
        self.show = show
        self.disks: list[Nbdkit] = []

    def _log(self, i: int) -> Path:
        return self.directory / f'requests{i}.log'

    def _disk(self, i: int) -> Nbdkit:
        return Nbdkit(self.directory, f'disk{i}',
                      ['memory', '64M', f'wdelay={self.config.latency_ms}ms',
                       f'logfile={self._log(i)}'],
                      ['--threads', str(2 * REQUESTS_PER_DISK),
                       '--filter=log', '--filter=delay'])

    def _vm(self, i: int, *args: str, before: Vm | None = None) -> Vm:
        names = ['vd' + chr(ord('a') + n) for n in range(len(self.disks))]
        disks = []
        for name, disk in zip(names, self.disks):
            disks += ['-blockdev', disk.blockdev(f'node-{name}'),
                      '-device', f'virtio-blk-pci,id={name},drive=node-{name}']
        guest = guest_args(','.join(names), 'write', think=0, blocks=16,
                           depth=self.config.depth_per_disk)
        return Vm(f'qemu{i}', self.directory, self.binary,
                  ['-m', '512', *guest, *disks, *args], before)

    async def _start(self, stack: AsyncExitStack, i: int, *args: str,
                     before: Vm | None = None) -> Vm:
        vm = await stack.enter_async_context(self._vm(i, *args, before=before))
        # What it takes to answer it would be measured, too.
        vm.prober.stop()
        await vm.enable_capabilities('events')
        await vm.execute('migrate-set-parameters', PARAMETERS)
        return vm

    async def all(self) -> list[Taken]:
        """Boot, migrate, and verify that nothing is lost."""
        async with AsyncExitStack() as stack:
            for i in range(self.config.disks):
                self.disks.append(
                    await stack.enter_async_context(self._disk(i)))
            self.show('boots')
            vm = await self._start(stack, 0)
            await vm.serial.ready(60)
            taken = []
            for i, variant in enumerate(self.variants):
                uri = f'unix:migrate{i}.sock'
                destination = await self._start(
                    stack, i + 1, '-incoming', uri, before=vm)
                taken.append(await self._migrate(variant, vm, destination,
                                                 uri))
                self.show(f'{variant}: verifies')
                await self._verify(vm, destination)
                vm = destination
            return taken

    def log(self) -> DiskLog:
        return DiskLog(self._log(i) for i in range(self.config.disks))

    async def _migrate(self, variant: str, source: Vm, destination: Vm,
                       uri: str) -> Taken:
        if variant == ON:
            await source.enable_capabilities('inflight-free-switchover')
            await source.execute('migrate-set-parameters', {
                'quiesce-window': QUIESCE_WINDOW_MS, 'drain-timeout': 0})
        self.show(f'{variant}: works')
        await self._put_out_of_step()
        await asyncio.sleep(self.config.latency_ms / 1000 + INTERVAL)

        self.show(f'{variant}: migrates')
        begun = time.monotonic()
        since = len(source.events)
        await source.execute('migrate', {'uri': uri})
        await self._wait_completed(source, since)
        beats = destination.serial.beats
        await until(lambda: len(beats) >= AFTERLIFE_BEATS, 30,
                    'heartbeats from the destination')
        info = await source.execute('query-migrate')
        return Taken(variant, source, destination, begun, info)

    @staticmethod
    async def _verify(source: Vm, destination: Vm):
        await destination.serial.command('verify', 60)
        Heart(source.serial, destination.serial).expect_regular()

    @staticmethod
    async def _wait_completed(source: Vm, since: int):
        """A source may have been a destination: look at new events only."""
        def ended():
            source.process.check()
            return next((e for e in source.events[since:]
                         if e.name == 'MIGRATION' and
                         e.data['status'] in ('completed', 'failed')), None)
        event = await until(ended, 60, f'{source.name} to migrate')
        if event.data['status'] != 'completed':
            info = await source.execute('query-migrate')
            raise HarnessError(f'migration failed: {info.get("error-desc")}')

    async def _put_out_of_step(self):
        """Let the disks begin one after the other."""
        start = max(await asyncio.gather(*(d.pause() for d in self.disks)))
        step = self.config.latency_ms / 1000 / len(self.disks)
        for i, disk in enumerate(self.disks):
            await asyncio.sleep(max(0, start + i * step - time.monotonic()))
            await disk.resume()
