# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces and a cable between them that is as slow as wanted

Nothing is left behind: a namespace lives as long as a process in it, which is a
sleep that ends with this one, and the cable goes with the namespaces.  Nobody
else sees them, and names and addresses in them are theirs alone.

    with Cable(rate='1gbit') as cable:
        run([*cable.a.enter, 'some', 'command'])

Needs root, ip and tc: can_be_had() says what is missing.
"""

import contextlib
import os
import shutil
import subprocess

RATE = '1gbit'
BURST = '256kb'
LATENCY = '50ms'
SYSCTL = '/proc/sys'


class NetworkError(Exception):
    """A command that makes or changes the network failed."""


def can_be_had() -> str | None:
    """What keeps us from having one, or None."""
    if os.geteuid() != 0:
        return 'network namespaces need root'
    for program in ('ip', 'tc', 'unshare', 'nsenter'):
        if not shutil.which(program):
            return f'{program} is not installed'
    return None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              check=False)
    except OSError as err:
        raise NetworkError(f'{command[0]}: {err}') from err
    if done.returncode:
        raise NetworkError(f'{" ".join(command)}: {done.stderr.strip()}')
    return done.stdout


class Namespace:
    """One end of a cable.

    @address: its IPv4 address
    @enter: what to put in front of a command to run it there
    """

    DEVICE = 'cable'

    def __init__(self, address: str):
        self.address = address
        self.enter: list[str] = []
        self._keeper: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        return self._keeper.pid

    def open(self):
        # It says that it is there by closing its standard output, and goes
        # when its standard input ends, however this process ends.
        self._keeper = subprocess.Popen(
            ['unshare', '--net', 'sh', '-c', 'exec >&-; read _'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)
        self._keeper.stdout.read()
        self.enter = ['nsenter', f'--net=/proc/{self.pid}/ns/net', '--']

    def close(self):
        if self._keeper:
            self._keeper.communicate(b'\n')
            self._keeper = None

    def run(self, *command: str) -> str:
        """Run a command there, and return what it writes."""
        return _run([*self.enter, *command])

    def set_up(self, rate: str):
        """What the cable's end needs that is there already."""
        self.run('ip', 'address', 'add', f'{self.address}/24',
                 'dev', self.DEVICE)
        for device in ('lo', self.DEVICE):
            self.run('ip', 'link', 'set', device, 'up')
        self.set_rate(rate)

    def set_rate(self, rate: str, burst: str = BURST):
        """How much this end may send, in the words of tc."""
        self.run('tc', 'qdisc', 'replace', 'dev', self.DEVICE, 'root', 'tbf',
                 'rate', rate, 'burst', burst, 'latency', LATENCY)

    def plug(self, is_in: bool):
        """Pull this end of the cable out, or plug it in again."""
        self.run('ip', 'link', 'set', self.DEVICE, 'up' if is_in else 'down')

    def has_carrier(self) -> bool:
        """Both ends are plugged in."""
        return 'LOWER_UP' in self.run('ip', 'link', 'show', self.DEVICE)

    def sysctl(self, name: str, value: str | None = None) -> str:
        """A setting such as net.ipv4.tcp_wmem; sets it if @value is given."""
        path = f'{SYSCTL}/{name.replace(".", "/")}'
        if value is not None:
            self.run('sh', '-c', 'echo "$1" > "$2"', 'sh', value, path)
        return ' '.join(self.run('cat', path).split())

    def sent(self) -> int:
        """Bytes sent on the cable so far."""
        for line in self.run('cat', '/proc/net/dev').splitlines():
            name, _, counts = line.partition(':')
            if name.strip() == self.DEVICE:
                return int(counts.split()[8])
        raise NetworkError(f'no device {self.DEVICE}')


class Cable(contextlib.AbstractContextManager):
    """Two namespaces, a and b, that see only each other.

    @rate: of each direction, in the words of tc
    """

    def __init__(self, rate: str = RATE):
        self.rate = rate
        self.a = Namespace('10.77.0.1')
        self.b = Namespace('10.77.0.2')

    def __enter__(self):
        try:
            self.a.open()
            self.b.open()
            _run(['ip', 'link', 'add', Namespace.DEVICE,
                  'netns', str(self.a.pid), 'type', 'veth',
                  'peer', 'name', Namespace.DEVICE, 'netns', str(self.b.pid)])
            self.a.set_up(self.rate)
            self.b.set_up(self.rate)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self.a.close()
        self.b.close()
