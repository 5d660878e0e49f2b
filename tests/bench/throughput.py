# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast a guest's memory goes away

The guest is paused, so each of its migrations sends the same, and one QEMU can
do any number of them; and who reads throws it away, as fast as he can.
"""

import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
import re
import sys
import time

from vm import HarnessError, Process, Vm, guest_args, until

MIB = 1 << 20
GUEST_MIB = 2048
BUFFER_MIB = 1024               # none of it zeroes
NO_LIMIT = 9223372036853727232  # of the bandwidth: what libvirt asks for
HANGS_AFTER_S = 120
THREAD = 'mig/src/main'

PIPE, SOCKET = 'pipe', 'unix socket'
READERS = {PIPE: 'exec:exec cat > /dev/null', SOCKET: 'unix:sink'}

# Reads what one client after the other writes.
SINK = '''
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(1)
buffer = bytearray(1 << 20)
while True:
    with server.accept()[0] as client:
        while client.recv_into(buffer):
            pass
'''


def memory_args(**options) -> list[str]:
    """QEMU arguments for a guest with much memory that is not zero."""
    return ['-m', str(GUEST_MIB),
            *guest_args('', faultbuf=BUFFER_MIB, faultus=2000, **options)]


@asynccontextmanager
async def sink(directory: Path):
    """What READERS[SOCKET] is connected to, for QEMUs in @directory."""
    process = Process('sink', directory)
    process.spawn([sys.executable, '-c', SINK, 'sink'])
    async with AsyncExitStack() as stack:
        stack.push_async_callback(process.end)
        await until((directory / 'sink').exists, 10, 'the sink')
        yield


@asynccontextmanager
async def paused_guest(name: str, directory: Path, binary: Path):
    """A Vm that send() can be used with."""
    async with Vm(name, directory, binary, memory_args()) as vm:
        await vm.serial.ready(120)
        await vm.execute('stop')
        yield vm


class Waits:
    """How often a thread waits, while it lasts."""

    def __init__(self, pid: int, name: str):
        self.begun = time.monotonic()
        self.per_s = 0.0
        self.status = next(
            (comm.with_name('status')
             for comm in Path(f'/proc/{pid}/task').glob('*/comm')
             if comm.read_text(encoding='ascii').strip() == name), None)

    def look(self):
        with contextlib.suppress(OSError, AttributeError):
            text = self.status.read_text(encoding='ascii')
            count = int(re.search(r'\nvoluntary_ctxt_switches:\s*(\d+)',
                                  text)[1])
            self.per_s = count / (time.monotonic() - self.begun)


@dataclass(frozen=True)
class Speed:
    """Of one migration.

    cpu_ms: that the processors spent on QEMU, per GiB
    iterations_per_s: as QEMU counts them, if it does
    waits_per_s: of the thread that migrates
    """
    mib_per_s: float
    cpu_ms: float
    iterations_per_s: float | None
    waits_per_s: float


def cpu_ms(vm: Vm) -> float:
    """Time that the processors have spent on QEMU, all threads together."""
    # The clock of another process; CPUCLOCK_SCHED in Linux's
    # include/linux/posix-timers.h.
    return time.clock_gettime((~vm.process.popen.pid << 3) | 2) * 1000


async def send(vm: Vm, to: str) -> Speed:
    """The guest is paused, and shall be so again."""
    begun, before_ms = time.monotonic(), cpu_ms(vm)
    await vm.execute('migrate', {'uri': READERS[to]})
    active = await vm.wait_event('MIGRATION', HANGS_AFTER_S,
                                 lambda data: data['status'] == 'active', begun)
    waits = Waits(vm.process.popen.pid, THREAD)

    def ended():
        waits.look()
        return next((e for e in vm.events if e.at >= begun and
                     e.data.get('status') in ('completed', 'failed')), None)

    event = await until(ended, HANGS_AFTER_S, f'the migration to a {to}')
    if event.data['status'] == 'failed':
        raise HarnessError(f'migration to a {to} failed')
    spent_ms = cpu_ms(vm) - before_ms
    info = await vm.execute('query-migrate')
    await vm.execute('cont')
    await vm.execute('stop')
    seconds = event.sent - active.sent
    mib = info['ram']['transferred'] / MIB
    count = info.get('iterations', {}).get('count')
    return Speed(mib / seconds, spent_ms * 1024 / mib,
                 None if count is None else count / seconds, waits.per_s)
