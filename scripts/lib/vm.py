# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU, its guest and its disk, as a measuring harness (asyncio)

Theory of operation

Two things are measured here, and both must not depend on how busy the script
is: when the guest gave a sign of life, and how long the monitor took to answer.
So each has a thread of its own that does nothing but read a socket and look at
the clock: SerialPort for the guest's serial line, Prober for a second QMP
connection.  Everything else runs in the asyncio event loop.  The threads hand
over by appending to lists, which only grow; the loop may read them any time.

All sockets to QEMU are socket pairs made before QEMU starts: nothing is lost
while somebody connects, and no path can be too long.

Units: times are seconds on time.monotonic()'s clock, durations are seconds,
unless the name ends in _ms.  A timeout that passes raises HarnessError; there
is no "for ever".

    async with Nbdkit(directory) as disk, \\
               Vm('source', directory, binary, args) as vm:
        await vm.serial.ready(20)
        await disk.pause()
        ...
"""

import asyncio
from collections.abc import Callable, Sequence
import contextlib
from pathlib import Path
import socket
import sys

from guestserial import Heart, SerialPort
from nbdkit import Nbdkit
from process import (BUILD, ROOT, HarnessError, Process, run,
                     socket_directory, until)
from prober import Prober
from qmp import Event

# Whoever has a guest needs most of these, too.
__all__ = ['BUILD', 'ROOT', 'Event', 'HarnessError', 'Heart', 'Nbdkit',
           'Process', 'Vm', 'guest_args', 'import_qmp', 'run',
           'socket_directory', 'until']

# The guest runs emulated: /dev/kvm may be there and not work.
ACCEL = ['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '256']
MACHINE = ['-machine', 'q35', '-nodefaults', '-display', 'none']

# Saves about a third of the time to boot.  The TSC is what the heartbeat
# should sleep by: reading the HPET needs QEMU's big lock.
KERNEL_OPTIONS = ('quiet nokaslr mitigations=off no_timer_check tsc=reliable '
                  'cryptomgr.notests=1 initcall_blacklist='
                  'init_kprobe_trace,load_system_certificate_list')


def import_qmp():
    """QEMU's own QMP package, out of an unpacked source tree."""
    for tree in ('patched', 'stock'):
        path = BUILD / tree / 'src' / 'python'
        if (path / 'qemu' / 'qmp').is_dir():
            if str(path) not in sys.path:
                sys.path.insert(0, str(path))
            from qemu import qmp
            return qmp
    raise HarnessError(f'no QEMU source tree under {BUILD}: run make first')


def guest_args(disks: str, mode: str = 'rw', **options) -> list[str]:
    """QEMU arguments that boot the guest.

    @disks, @mode and @options (depth, hb, think, ...) are the guest's so.*
    parameters; see tests/guest/init.c.
    """
    # qboot looks at no disk.  SeaBIOS before 1.16.3 does, and waits 32 s for
    # each hard disk on AHCI, whose error interrupt it does not understand.
    guest = BUILD / 'guest'
    append = [KERNEL_OPTIONS, f'so.disks={disks}', f'so.mode={mode}']
    append += [f'so.{name}={value}' for name, value in options.items()]
    return ['-bios', 'qboot.rom',
            '-kernel', str(guest / 'vmlinuz'),
            '-initrd', str(guest / 'initramfs.gz'),
            '-append', ' '.join(append)]


class Vm:
    """A QEMU process with a monitor, a prober and the guest's serial port.

    @name: also the name of its log files
    @directory: where it runs and leaves its files
    @binary: of QEMU
    @args: beyond ACCEL and MACHINE
    @before: the source, if this is the destination of a migration
    @enter: a command that runs QEMU, such as a namespace's

    events: all QMP events so far
    serial: SerialPort
    prober: Prober, running
    """

    def __init__(self, name: str, directory: Path, binary: Path,
                 args: Sequence[str], before: 'Vm | None' = None,
                 enter: Sequence[str] = ()):
        self.name = name
        self.directory = directory
        self.binary = binary
        self.enter = list(enter)
        self.args = list(args)
        self.events: list[Event] = []
        self.process = Process(name, directory)
        self.serial: SerialPort = None
        self.prober: Prober = None
        self._before = before
        self._qmp = None

    # The guest's console is kept too: a kernel that dies says so there.
    def _command(self, monitor: int, prober: int, serial: int) -> list[str]:
        return [
            *self.enter, str(self.binary), '-name', f'{self.name},debug-threads=on',
            *ACCEL, *MACHINE,
            '-chardev', f'socket,id=monitor,fd={monitor}',
            '-mon', 'chardev=monitor,mode=control',
            '-chardev', f'socket,id=prober,fd={prober}',
            '-mon', 'chardev=prober,mode=control',
            '-chardev', f'socket,id=serial,fd={serial}',
            '-serial', 'chardev:serial',
            '-serial', f'file:{self.name}-console.log',
            *self.args,
        ]

    async def __aenter__(self):
        pairs = [socket.socketpair() for _ in range(3)]
        theirs = [pair[1] for pair in pairs]
        monitor, prober, serial = (pair[0] for pair in pairs)
        fds = [sock.fileno() for sock in theirs]
        try:
            self.process.spawn(self._command(*fds), fds)
        finally:
            for sock in theirs:
                sock.close()
        self.serial = SerialPort(
            serial, self.directory / f'{self.name}-serial.log',
            self._before.serial if self._before else None)
        self.prober = Prober(prober)
        self.prober.start()
        try:
            await self._connect(monitor)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _connect(self, sock: socket.socket):
        qmp = import_qmp()
        client = qmp.QMPClient(self.name)
        client.logger.setLevel('CRITICAL')
        client.register_listener(qmp.EventListener((), self._record))
        try:
            await asyncio.wait_for(client.connect(sock), 30)
        except (qmp.QMPError, asyncio.TimeoutError) as err:
            await asyncio.sleep(0.1)        # its last words
            raise HarnessError(f'{self.name} does not start: '
                               f'{self.process.log_tail() or err}') from err
        self._qmp = client

    def _record(self, event) -> bool:
        self.events.append(Event.of(event))
        return False            # nobody takes it out of a queue

    async def __aexit__(self, *_):
        """End QEMU (one that hangs is killed) and all that belongs to it."""
        await self.process.end()
        self.prober.stop()
        self.serial.close()
        if self._qmp:
            # It complains that the other end has gone; so it has.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._qmp.disconnect(), 5)
            self._qmp = None

    async def execute(self, command: str, arguments: dict | None = None,
                      timeout: float = 60, oob: bool = False):
        """A QMP command.  What QEMU refuses raises HarnessError.

        @oob: out of band, which not every command can be
        """
        qmp = import_qmp()
        try:
            return await asyncio.wait_for(
                self._qmp.execute(command, arguments, oob), timeout)
        except asyncio.TimeoutError:
            raise HarnessError(f'{self.name}: no answer to {command} within '
                               f'{timeout:g} s') from None
        except qmp.QMPError as err:
            self.process.check()
            raise HarnessError(f'{self.name}: {command}: {err}') from err

    async def wait_event(self, name: str, timeout: float,
                         condition: Callable[[dict], bool] = lambda data: True,
                         since: float = 0) -> Event:
        """The first event called @name with such data, from @since on."""
        def found():
            self.process.check()
            return next((e for e in self.events if e.name == name and
                         e.at >= since and condition(e.data)), None)
        return await until(found, timeout, f'{name} from {self.name}')

    async def enable_capabilities(self, *names: str):
        """Migration capabilities; "events" is needed by wait_migration()."""
        await self.execute('migrate-set-capabilities', {
            'capabilities': [{'capability': n, 'state': True} for n in names]})

    async def wait_migration(self, timeout: float,
                             *statuses: str) -> Event:
        """The event that the migration reached one of @statuses.

        Ending in another way raises HarnessError with QEMU's reason.
        """
        ends = {'completed', 'failed', 'cancelled'}
        event = await self.wait_event(
            'MIGRATION', timeout,
            lambda data: data['status'] in ends | set(statuses))
        if event.data['status'] not in statuses:
            info = await self.execute('query-migrate')
            raise HarnessError(f'{self.name}: migration '
                               f'{event.data["status"]}: '
                               f'{info.get("error-desc", "no reason given")}')
        return event
