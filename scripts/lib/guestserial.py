# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest says on its serial line: that it lives, above all"""

from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
from pathlib import Path
import socket
import threading
import time

from process import HarnessError, until
from stamped import since


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
                 for b in since(port.beats, start) if b.at <= end]
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

    def expect_regular(self):
        """Raise if a beat was lost or came twice."""
        irregular = self.irregular()
        if irregular:
            raise HarnessError(f'heartbeat {irregular[0]}')

    def irregular(self) -> list[str]:
        """Beats that were lost or came twice, normally none."""
        beats = self.beats(0, float('inf'))
        return [f'{a.number} was followed by {b.number}'
                for a, b in zip(beats, beats[1:]) if b.number != a.number + 1]
