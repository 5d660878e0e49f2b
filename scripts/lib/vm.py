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
from collections.abc import Callable, Iterable, Sequence
import contextlib
from dataclasses import dataclass
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from qmp import Connection, Event, QmpError

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / 'build'

# The guest runs emulated: /dev/kvm may be there and not work.
ACCEL = ['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '256']
MACHINE = ['-machine', 'q35', '-nodefaults', '-display', 'none']

# Saves about a third of the time to boot.  The TSC is what the heartbeat
# should sleep by: reading the HPET needs QEMU's big lock.
KERNEL_OPTIONS = ('quiet nokaslr mitigations=off no_timer_check tsc=reliable '
                  'cryptomgr.notests=1 initcall_blacklist='
                  'init_kprobe_trace,load_system_certificate_list')


class HarnessError(Exception):
    """Something did not happen, or happened that should not have."""


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


async def until(condition: Callable[[], object], timeout: float, what: str):
    """Poll until @condition() is true, and return what it returned."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise HarnessError(f'waited {timeout:g} s for {what}')
        await asyncio.sleep(0.005)
    return result


def socket_directory(directory: Path) -> Path:
    """@directory, or a temporary one if that is too long for a socket."""
    if len(str(directory)) < 70:
        return directory
    return Path(tempfile.mkdtemp(prefix='vm-'))


class Process:
    """A child process with a log, which does not outlive this one.

    A guard, a shell that waits for its standard input to end, kills the child
    if this process dies without ending it.  PR_SET_PDEATHSIG would not do:
    nbdkit sets it to SIGTERM, on which a paused nbdkit does not exit.
    """

    def __init__(self, name: str, directory: Path):
        self.name = name
        self.directory = directory
        self.log_path = directory / f'{name}.log'
        self.popen: subprocess.Popen | None = None
        self._guard: subprocess.Popen | None = None

    def spawn(self, command: Sequence[str], pass_fds: Iterable[int] = ()):
        try:
            with open(self.log_path, 'wb') as log:
                self.popen = subprocess.Popen(
                    [str(word) for word in command], cwd=self.directory,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=tuple(pass_fds), start_new_session=True)
        except OSError as err:
            raise HarnessError(f'cannot start {self.name}: {err}') from err
        self._guard = subprocess.Popen(
            ['sh', '-c', f'read _ || kill -KILL {self.popen.pid}'],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def children(self) -> list[int]:
        """Processes that it has started and that are not reaped."""
        found = []
        for task in Path(f'/proc/{self.popen.pid}/task').glob('*/children'):
            with contextlib.suppress(OSError):      # a thread that ends
                found += [int(word) for word in task.read_text().split()]
        return found

    def log_tail(self) -> str:
        """The end of what the process wrote, for error messages."""
        with contextlib.suppress(OSError):
            return self.log_path.read_text(errors='replace')[-2000:].strip()
        return ''

    def check(self):
        """Raise if the process has ended."""
        if not self.running:
            raise HarnessError(f'{self.name} has ended '
                               f'(status {self.popen.returncode}): '
                               f'{self.log_tail()}')

    async def end(self, grace: float = 2):
        """SIGTERM, and SIGKILL after @grace seconds; 0 kills at once."""
        if self.running and grace:
            self.popen.terminate()
            with contextlib.suppress(HarnessError):
                await until(lambda: not self.running, grace, self.name)
        if self.running:
            self.popen.kill()
        if self.popen:
            self.popen.wait()
        if self._guard:
            self._guard.communicate(b'\n')
            self._guard = None


# ---- the disk ---------------------------------------------------------------

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


# ---- the guest --------------------------------------------------------------

@dataclass(frozen=True)
class Line:
    """Something that the guest said, and when it arrived."""
    at: float
    text: str


@dataclass(frozen=True)
class Beat:
    """A heartbeat: when it arrived, and its number."""
    at: float
    number: int


class SerialPort:
    """The guest's serial line: its protocol, timestamped on arrival.

    A thread reads; the methods are for the event loop.

    @before: the port of the source, on the destination of a migration.  The
    UART's state migrates in the middle of a line; this side gets the rest.

    lines: everything but heartbeats and counts
    beats: heartbeats
    ops, errors: as last reported by the guest (once a second)
    """

    def __init__(self, sock: socket.socket, log_path: Path,
                 before: 'SerialPort | None' = None):
        self.lines: list[Line] = []
        self.beats: list[Beat] = []
        self.ops = self.errors = 0
        self._sock = sock
        self._before = before
        self._partial = b''
        self._log = open(log_path, 'wb')
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                data = self._sock.recv(65536)
            except OSError:
                data = b''
            at = time.monotonic()
            if not data:
                self._log.close()
                return
            if self._before:
                self._partial, self._before = self._before._partial, None
            *whole, self._partial = (self._partial + data).split(b'\n')
            for line in whole:
                self._arrived(at, line.decode(errors='replace').strip())

    def _arrived(self, at: float, text: str):
        words = text.split()
        if words[:2] == ['SO', 'HB'] and len(words) == 3:
            self.beats.append(Beat(at, int(words[2])))
        elif words[:2] == ['SO', 'IO'] and len(words) == 4:
            self.ops, self.errors = int(words[2]), int(words[3])
        elif text:
            self.lines.append(Line(at, text))
        self._log.write(f'{at:.6f} {text}\n'.encode())

    def close(self):
        # Also wakes the thread up; it closes the log.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()

    def panics(self) -> list[str]:
        """What the guest found wrong, normally nothing."""
        return [x.text for x in self.lines if x.text.startswith('SO PANIC')]

    async def expect(self, prefixes: Sequence[str], since: int,
                     timeout: float) -> str:
        """The first line from index @since on that has one of @prefixes."""
        def found():
            for line in self.lines[since:]:
                if line.text.startswith('SO PANIC'):
                    raise HarnessError(f'the guest says: {line.text}')
                if line.text.startswith(tuple(prefixes)):
                    return line.text
            return None
        return await until(found, timeout, f'the guest to say {prefixes[0]}')

    async def ready(self, timeout: float):
        """Wait until the guest is up and does its I/O."""
        await self.expect(['SO READY'], 0, timeout)

    async def command(self, command: str, timeout: float = 10) -> str:
        """Give the guest a command and return the rest of its SO OK line."""
        since = len(self.lines)
        word = command.split()[0]
        self._sock.sendall(command.encode() + b'\n')
        answer = await self.expect([f'SO OK {word}', f'SO FAIL {word}'], since,
                                   timeout)
        if not answer.startswith('SO OK'):
            raise HarnessError(f'the guest says: {answer}')
        return answer.removeprefix(f'SO OK {word}').strip()

    async def operations(self, timeout: float = 10) -> int:
        """How many I/O operations the guest has completed by now."""
        return int((await self.command('stats', timeout)).split()[0])


AROUND_S = 0.25                 # a switchover


class Heart:
    """The heartbeat of one guest, over all QEMUs that it lives in."""

    def __init__(self, *ports: SerialPort):
        self.ports = ports

    def beats(self, start: float, end: float) -> list[Beat]:
        """Beats that arrived in an interval, in order of arrival."""
        found = [b for port in self.ports
                 for b in _tail(port.beats, start) if b.at <= end]
        return sorted(found, key=lambda b: b.at)

    def last(self) -> Beat | None:
        """The newest beat."""
        newest = [port.beats[-1] for port in self.ports if port.beats]
        return max(newest, key=lambda b: b.at, default=None)

    def gaps(self, start: float, end: float) -> list[tuple[float, float]]:
        """(beginning, length) of every silence in an interval.

        Silence before the first beat and after the last one is counted, as far
        as it lies in the interval: so a heart that stopped shows.
        """
        times = [start, *(b.at for b in self.beats(start, end)), end]
        return [(a, b - a) for a, b in zip(times, times[1:])]

    def longest_gap(self, start: float, end: float) -> tuple[float, float]:
        """(beginning, length) of the longest silence in an interval"""
        return max(self.gaps(start, end), key=lambda gap: gap[1])

    def switchover(self) -> tuple[float, float]:
        """Around it: from the source's last beat to the destination's first."""
        return (self.ports[0].beats[-1].at - AROUND_S,
                self.ports[-1].beats[0].at + AROUND_S)

    def irregular(self) -> list[str]:
        """Beats that were lost or came twice, normally none."""
        beats = self.beats(0, float('inf'))
        return [f'{a.number} was followed by {b.number}'
                for a, b in zip(beats, beats[1:]) if b.number != a.number + 1]


def _tail(stamped: list, start: float) -> list:
    """The items with .at >= @start of a list in order of time, cheaply."""
    i = len(stamped)
    while i and stamped[i - 1].at >= start:
        i -= 1
    return stamped[i:]


# ---- the monitor ------------------------------------------------------------

@dataclass(frozen=True)
class Answer:
    """An answer of the monitor: when it came and how long it took."""
    at: float
    took: float
    command: str


class Prober:
    """Asks the monitor something harmless all the time, and times it.

    A thread with a QMP connection of its own, which alternates between
    query-migrate and query-status, every 20 ms or as soon as it is answered.

    answers: all of them
    """

    PERIOD = 0.020
    COMMANDS = ('query-migrate', 'query-status')

    def __init__(self, sock: socket.socket):
        self.answers: list[Answer] = []
        self._sock = sock
        self._qmp = Connection(sock)
        self._asked: float | None = None    # a question is open since then
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        """Begin; QEMU answers once it has started up."""
        self._thread.start()

    def _run(self):
        with contextlib.suppress(QmpError):
            self._qmp.negotiate()
            turn = 0
            while not self._stopping.is_set():
                command = self.COMMANDS[turn % len(self.COMMANDS)]
                self._asked = start = time.monotonic()
                self._qmp.wait(self._qmp.ask(command))
                end = time.monotonic()
                self.answers.append(Answer(end, end - start, command))
                self._asked = None
                turn += 1
                self._stopping.wait(max(0, self.PERIOD - (end - start)))

    def stop(self):
        """Stop asking; a question that is open stays open."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()

    def waiting(self) -> float:
        """For how long a question has been open now, 0 if none is."""
        asked = self._asked
        return time.monotonic() - asked if asked else 0

    def worst(self, start: float, end: float) -> float:
        """Longest wait for an answer that came in the interval.

        An interval that reaches to the present includes the open question.
        """
        took = [a.took for a in _tail(self.answers, start) if a.at <= end]
        if end >= time.monotonic():
            took.append(self.waiting())
        return max(took, default=0)


# ---- QEMU -------------------------------------------------------------------

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


def run(main, *args) -> int:
    """asyncio.run() that ends child processes on SIGTERM and Ctrl-C too.

    Returns main's result, or 130 if it was interrupted.
    """
    async def guarded():
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, task.cancel)
        return await main(*args)
    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        return 130
