# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of QEMU's monitor, of the standard library alone

One thread has a Connection, and waits in it: for an answer, or for events,
until a time limit.  So the time at which something arrives is taken at once, and
there is nothing to hand over.  A question may stay open while the thread looks
at the clock, which is how to notice a monitor that is stuck:

    qmp = connect('/run/vm.qmp', 3)
    request = qmp.ask('query-migrate')
    while not request.answered:
        if not qmp.read(1):
            print('still no answer')
    print(request.result())

Times are seconds on time.monotonic()'s clock, time limits are seconds, and None
is for ever.
"""

from dataclasses import dataclass
import json
import os
import socket
import time


class QmpError(Exception):
    """The monitor did not do what it was asked for."""


class Refused(QmpError):
    """QEMU answered with an error."""


class Silent(QmpError):
    """Nothing came within the time limit."""


class Lost(QmpError):
    """The connection is gone, or is to something else than QEMU's monitor."""


@dataclass(frozen=True)
class Event:
    """A QMP event and when it arrived.

    @sent: when QEMU sent it, in seconds of the host's wall clock
    """
    at: float
    name: str
    data: dict
    sent: float = 0

    @classmethod
    def of(cls, message: dict) -> 'Event':
        """The event that @message is, which arrives now."""
        stamp = message.get('timestamp', {})
        return cls(time.monotonic(), message['event'],
                   dict(message.get('data', {})),
                   stamp.get('seconds', 0) + stamp.get('microseconds', 0) / 1e6)


class Request:
    """A command and, once @answered, what QEMU said."""

    def __init__(self, command: str):
        self.command = command
        self.answered = False
        self._value = None
        self._error: dict | None = None

    def take(self, message: dict):
        """The answer is here."""
        self.answered = True
        self._value = message.get('return')
        self._error = message.get('error')

    def result(self):
        """What was returned; an error raises Refused."""
        if self._error is not None:
            raise Refused(f'{self.command}: '
                          f'{self._error.get("desc", "no reason given")}')
        return self._value


class Connection:
    """One QMP session on a connected socket.

    events: all that arrived so far
    greeting: what QEMU said about itself, after negotiate()
    """

    def __init__(self, sock: socket.socket):
        self.events: list[Event] = []
        self.greeting: dict = {}
        self._sock = sock
        self._partial = b''
        self._lines: list[bytes] = []
        self._open: dict[int, Request] = {}
        self._number = 0

    def negotiate(self, timeout: float | None = None, oob: bool = False):
        """Go through the greeting: afterwards, commands may be given.

        @oob: also out of band
        """
        message = self._message(timeout)
        if message is None:
            raise Silent(f'no greeting within {timeout:g} s')
        if 'QMP' not in message:
            raise Lost('what is there is not a QMP monitor')
        self.greeting = message['QMP']
        self.execute('qmp_capabilities', {'enable': ['oob']} if oob else None,
                     timeout)

    def ask(self, command: str, arguments: dict | None = None,
            oob: bool = False) -> Request:
        """Give a command and do not wait for its answer.

        @oob: out of band, so that it does not wait for the main loop
        """
        request = Request(command)
        self._number += 1
        self._open[self._number] = request
        message = {'exec-oob' if oob else 'execute': command,
                   'id': self._number}
        if arguments is not None:
            message['arguments'] = arguments
        try:
            self._sock.settimeout(None)
            self._sock.sendall(json.dumps(message).encode() + b'\n')
        except OSError as err:
            raise Lost(f'the monitor is gone: {err}') from err
        return request

    def read(self, timeout: float | None) -> bool:
        """Take in one answer or event; False if none came in time."""
        message = self._message(timeout)
        if message is None:
            return False
        if 'event' in message:
            self.events.append(Event.of(message))
        elif message.get('id') in self._open:
            self._open.pop(message['id']).take(message)
        return True

    def wait(self, request: Request, timeout: float | None = None):
        """Until it is answered; raises Silent if that takes too long."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not request.answered:
            left = None
            if deadline is not None:
                left = max(0, deadline - time.monotonic())
            if not self.read(left):
                raise Silent(f'no answer to {request.command} within '
                             f'{timeout:g} s')

    def execute(self, command: str, arguments: dict | None = None,
                timeout: float | None = None):
        """Give a command, wait for its answer, and return that."""
        request = self.ask(command, arguments)
        self.wait(request, timeout)
        return request.result()

    def close(self):
        self._sock.close()

    def _message(self, timeout: float | None) -> dict | None:
        """The next one, None if it is not there in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._lines:
            left = None
            if deadline is not None:
                # 0 would mean not to block, which is another exception.
                left = max(1e-6, deadline - time.monotonic())
            if not self._receive(left):
                return None
        try:
            message = json.loads(self._lines.pop(0))
        except ValueError as err:
            raise Lost('what is there is not a QMP monitor') from err
        if not isinstance(message, dict):
            raise Lost('what is there is not a QMP monitor')
        return message

    def _receive(self, timeout: float | None) -> bool:
        try:
            self._sock.settimeout(timeout)
            data = self._sock.recv(65536)
        except TimeoutError:
            return False
        except OSError as err:
            raise Lost(f'the monitor is gone: {err}') from err
        if not data:
            raise Lost('QEMU has closed the connection')
        *lines, self._partial = (self._partial + data).split(b'\n')
        self._lines += [line for line in lines if line.strip()]
        return True


def _inet(address: str) -> tuple[str, int] | None:
    """HOST:PORT as a pair, None if @address is a path."""
    host, colon, port = address.rpartition(':')
    if not colon or '/' in address or not port.isdecimal():
        return None
    return host.strip('[]') or 'localhost', int(port)


def connect(address: str, timeout: float, oob: bool = False) -> Connection:
    """A session with the monitor at @address, a path or HOST:PORT.

    @oob: commands can be given out of band, too

    QEMU serves one client per monitor.  Others can connect, but hear nothing.
    """
    inet = None if os.path.exists(address) else _inet(address)
    try:
        if inet:
            sock = socket.create_connection(inet, timeout)
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout)
            sock.connect(address)
    except (BlockingIOError, TimeoutError) as err:
        raise Silent(f'{address} does not take connections') from err
    except (OSError, OverflowError) as err:
        raise Lost(f'{address}: {getattr(err, "strerror", None) or err}') \
            from err
    connection = Connection(sock)
    try:
        connection.negotiate(timeout, oob)
    except BaseException:
        connection.close()
        raise
    return connection
