# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's two disks, and the processes that it lives in one after another

Both disks are served by nbdkit, so that both sides of a migration have them at
the same time, and so that each can be made to hang:

  disk0  vda, virtio-blk with an IOThread, raw
  disk1  sda, virtio-scsi, qcow2, which has a persistent dirty bitmap
"""

from contextlib import AsyncExitStack
import os
from pathlib import Path
import subprocess

from vm import BUILD, HarnessError, Nbdkit, Vm, guest_args, until

MEMORY_MIB = 128
HEARTBEAT_MS = 20
IMAGE = 'size=256M'
VIRTUAL_SIZE = '128M'


def is_sanitized(binary: Path) -> bool:
    """Was it built with AddressSanitizer?"""
    mark = b'__asan_init'
    kept = b''
    with open(binary, 'rb') as stream:
        while block := stream.read(1 << 22):
            if mark in kept + block:
                return True
            kept = block[-len(mark):]
    return False


def prepare_sanitizers():
    """What QEMU's sanitizers do, unless the user says something else

    Freed memory is kept for a while to notice its use: here not for so long,
    or it would look like a leak.  GLib has no frame pointers, so who called it
    is found out in the slow way, for the suppressions as well.
    """
    os.environ.setdefault('ASAN_OPTIONS', 'detect_leaks=1:quarantine_size_mb=4:'
                          'fast_unwind_on_malloc=0:'
                          'malloc_context_size=16')
    os.environ.setdefault('LSAN_OPTIONS', 'print_suppressions=0:suppressions='
                          f'{BUILD.parent}/tests/sanitizer/lsan.supp')
    os.environ.setdefault('UBSAN_OPTIONS', 'halt_on_error=1:abort_on_error=1:'
                          'print_stacktrace=1')


def look_for_reports(vm: Vm, leaks: bool = True) -> str:
    """The first line that a sanitizer, or an assertion, has left; or ''."""
    marks = ['ERROR: AddressSanitizer', 'runtime error:',
             'AddressSanitizer:DEADLYSIGNAL', 'Assertion ', 'CRITICAL **']
    if leaks:
        marks.append('ERROR: LeakSanitizer')
    text = vm.process.log_path.read_text(errors='replace')
    return next((line for line in text.splitlines()
                 if any(mark in line for mark in marks)), '')


class Rig:
    """The disks, and a way to start a process.

    disks: Nbdkit of disk0, disk1
    """

    def __init__(self, directory: Path, binary: Path):
        self.directory = directory
        self.binary = binary
        self.disks: list[Nbdkit] = []
        self._stamp = binary.stat().st_mtime_ns
        self._started = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        for name in ('disk0', 'disk1'):
            disk = Nbdkit(self.directory, name, ('memory', IMAGE))
            self.disks.append(await self._stack.enter_async_context(disk))
        try:
            self._format()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    def _format(self):
        done = subprocess.run(
            [BUILD / 'qemu-img', 'create', '-q', '-f', 'qcow2',
             self.uri(1), VIRTUAL_SIZE],
            capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise HarnessError(f'qemu-img: {done.stderr.strip()}')

    def uri(self, disk: int) -> str:
        return f'nbd+unix:///?socket={self.disks[disk].path}'

    def overwrite(self):
        """What the guest wrote first is not there any more."""
        done = subprocess.run(
            [BUILD / 'qemu-io', '-f', 'raw', '-c', 'write -P 0x5a 0 256k',
             self.uri(0)], capture_output=True, text=True, check=False,
            timeout=60)
        if done.returncode:
            raise HarnessError(f'qemu-io: {done.stdout}{done.stderr}')

    def _args(self, shared: bool) -> list[str]:
        backend = 'memory-backend-memfd,share=on' if shared else \
            'memory-backend-ram'
        guest = guest_args('vda,sda', hb=HEARTBEAT_MS, depth=3, blocks=128,
                           think=4000, dirty=4, dirtybuf=16)
        return [
            *guest, '-m', str(MEMORY_MIB),
            '-object', f'{backend},id=ram,size={MEMORY_MIB}M',
            '-machine', 'memory-backend=ram',
            '-object', 'iothread,id=io0',
            '-blockdev', self.disks[0].blockdev('disk0'),
            '-device', 'virtio-blk-pci,id=vda,drive=disk0,iothread=io0',
            '-blockdev', self.disks[1].blockdev('disk1-nbd'),
            '-blockdev', 'driver=qcow2,node-name=disk1,file=disk1-nbd',
            '-device', 'virtio-scsi-pci,id=scsi0',
            '-device', 'scsi-hd,id=sda,drive=disk1',
        ]

    def vm(self, before: Vm | None = None, shared: bool = False) -> Vm:
        """A process that is not started yet; @before has the guest."""
        if not self.binary.exists() or \
                self.binary.stat().st_mtime_ns != self._stamp:
            raise HarnessError(f'{self.binary} was built anew meanwhile')
        self._started += 1
        incoming = ['-incoming', 'defer'] if before else []
        return Vm(f'qemu-{self._started:03}', self.directory, self.binary,
                  [*self._args(shared), *incoming], before)


async def leave(vm: Vm, timeout: float, expected: int):
    """Wait until @vm, which is going to exit, has, with this status."""
    process = vm.process
    try:
        await until(lambda: not process.running, timeout,
                    f'{vm.name} to end')
        status = process.popen.returncode
        if status != expected:
            raise HarnessError(f'{vm.name} ended with status {status}, not '
                               f'{expected}: {process.log_tail()}')
    finally:
        await vm.__aexit__()
    # Who exits in the middle of something, such as an answer of the monitor,
    # leaves memory that only the stack of a coroutine knows of.
    report = look_for_reports(vm, leaks=expected == 0)
    if report:
        raise HarnessError(f'{vm.name}: {report}')


async def quit_vm(vm: Vm, timeout: float):
    """End @vm as a user does.

    Nobody gives another command meanwhile: in 10.0, patched or not, one that
    comes late wakes a dispatcher that is not there any more.
    """
    vm.prober.stop()
    await vm.execute('quit', timeout=timeout)
    await leave(vm, timeout, 0)
