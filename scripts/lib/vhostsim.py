# SPDX-License-Identifier: GPL-2.0-or-later
"""The vhost-user simulator (tests/vhost-user-sim) for scripts

    with VhostSim(directory, nics=16, queue_pairs=4) as sim, \\
            Vm('vm', directory, binary, sim.qemu_args() + [...]):
        sim.order('latency * serial GET_VRING_BASE:2000')
        sim.stats('nic3')['messages']['GET_VRING_BASE']['received']

It ends with this process, or at the end of the "with".
"""

from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path
import resource
import shutil
import signal
import socket
import subprocess

from vm import BUILD, HarnessError, socket_directory

PROGRAM = BUILD / 'patched/obj/tests/vhost-user-sim/vhost-user-sim'
FUNCTIONS = 8                   # of a PCI slot


def raise_file_limit():
    """Of this process and its children: every ring needs some eventfds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True)
class Entry:
    """A line of the log; @at in seconds on time.monotonic()'s clock."""
    at: float
    device: str
    event: str
    kind: str


class VhostSim:
    """Network cards nic0, nic1, ... and disks disk0, ... in one process.

    The devices of QEMU have the same names as ids.

    @reconnect_ms: QEMU connects anew so long after a connection was lost; it
        does not if this is 0

    log: the path of its log; see journal.h for the format
    """

    def __init__(self, directory: Path, nics: int = 0, queue_pairs: int = 1,
                 disks: int = 0, queues: int = 1, one_thread: bool = False,
                 options: str = '', reconnect_ms: int = 0):
        self.directory = directory
        self.nics, self.queue_pairs = nics, queue_pairs
        self.disks, self.queues = disks, queues
        self.log = directory / 'vhost-user-sim.log'
        self._sockets = socket_directory(directory)
        self._reconnect = (f',reconnect-ms={reconnect_ms}'
                           if reconnect_ms else '')
        self._options = [*(['--one-thread'] if one_thread else []),
                         *options.split()]
        self._process = self._stream = None

    def _command(self) -> list[str]:
        words = [str(PROGRAM), '--control', f'{self._sockets}/control.sock',
                 '--log', str(self.log), *self._options]
        if self.nics:
            words += ['--net', f'nic#,count={self.nics},'
                      f'queue-pairs={self.queue_pairs},'
                      f'listen={self._sockets}/nic#.sock']
        if self.disks:
            words += ['--blk', f'disk#,count={self.disks},'
                      f'queues={self.queues},'
                      f'listen={self._sockets}/disk#.sock']
        return words

    def __enter__(self):
        with open(self.directory / 'vhost-user-sim.err', 'wb') as errors:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors)
        if self._process.stdout.readline() != b'ready\n':
            raise HarnessError('vhost-user-sim does not start')
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f'{self._sockets}/control.sock')
        self._stream = sock.makefile('rw')
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self):
        """It does nothing, until go_on()."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Harmless if it is not stopped, or dead."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        """It is gone, until restart()."""
        self._process.kill()
        self._close()

    def restart(self):
        """A new one in the place of one that was killed."""
        self.__enter__()

    def _close(self):
        if self._stream:
            self._stream.close()
            self._stream = None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __exit__(self, *_):
        self.go_on()
        self._close()
        if self._sockets != self.directory:
            shutil.rmtree(self._sockets)

    def order(self, line: str) -> str:
        """A command; returns what follows OK, and raises on ERR."""
        self._stream.write(line + '\n')
        self._stream.flush()
        word, _, rest = self._stream.readline().strip().partition(' ')
        if word != 'OK':
            raise HarnessError(f'vhost-user-sim: {line}: {rest}')
        return rest

    def stats(self, devices: str):
        """Of one device; or a list, of a pattern."""
        return json.loads(self.order(f'stats {devices}'))

    def entries(self, offset: int = 0) -> Iterator[Entry]:
        """The log from a byte on."""
        with open(self.log, encoding='ascii') as log:
            log.seek(offset)
            for line in log:
                at_us, device, event, kind, *_ = line.split()
                yield Entry(int(at_us) / 1e6, device, event, kind)

    def _device(self, driver: str, name: str, place: int, *options) -> str:
        """All functions of all slots: 240 devices, and no bridges."""
        slot, function = divmod(place, FUNCTIONS)
        return ','.join([driver, f'id={name}', 'multifunction=on',
                         f'addr={slot + 1:x}.{function}', *options])

    def qemu_args(self, memory: str = '256M') -> list[str]:
        """All devices, and memory that can be shared with them."""
        args = ['-object',
                f'memory-backend-memfd,id=mem,size={memory},share=on',
                '-m', memory, '-machine', 'memory-backend=mem']
        for i in range(self.nics):
            args += ['-chardev',
                     f'socket,id=char-nic{i},path={self._sockets}/nic{i}.sock'
                     f'{self._reconnect}',
                     '-netdev', f'vhost-user,id=net{i},chardev=char-nic{i},'
                     f'queues={self.queue_pairs}',
                     '-device', self._device(
                         'virtio-net-pci', f'nic{i}', i, f'netdev=net{i}',
                         'mq=on', f'vectors={2 * self.queue_pairs + 2}',
                         'romfile=')]
        for i in range(self.disks):
            args += ['-chardev', f'socket,id=char-disk{i},'
                     f'path={self._sockets}/disk{i}.sock{self._reconnect}',
                     '-device', self._device(
                         'vhost-user-blk-pci', f'disk{i}', self.nics + i,
                         f'chardev=char-disk{i}',
                         f'num-queues={self.queues}')]
        return args
