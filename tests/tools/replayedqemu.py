# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP monitor that says what a real one said during a migration

Each question for the migration gets the next of the recorded answers, after the
events that came before it: so it goes as fast as its client asks.  The format is
that of "migration-iterations --log", or that of "switchover-report --log", which has
two sides.
"""

from collections.abc import Callable
import contextlib
import copy
import json
from pathlib import Path
import socket
import threading


class Recording:
    """What a QEMU said: a greeting, answers to query-migrate, events.

    @side: the one to take, if there are two in the file
    members: what query-migrate may tell
    """

    def __init__(self, path: Path, side: str | None = None):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.members = ('status', 'iterations')
        if side:
            about = lines[0]['sides'][side]
            self.members = tuple(about['members'])
            lines[1:] = [item for item in lines[1:] if item['side'] == side and
                         'lost' not in item]
            lines[0] = about
        self.greeting = lines[0]['greeting']
        # What came while there was no migration is of no interest.
        while not lines[1].get('query-migrate', True):
            del lines[1]
        self.items = lines[1:]

    def copy(self) -> 'Recording':
        return copy.deepcopy(self)

    @property
    def answers(self) -> list[dict]:
        return [item['query-migrate'] for item in self.items
                if 'query-migrate' in item]

    @property
    def last(self) -> dict:
        return self.answers[-1]

    def until(self, condition: Callable[[dict], bool]) -> 'Recording':
        """The same up to the first item that meets @condition."""
        cut = self.copy()
        first = next(i for i, item in enumerate(cut.items) if condition(item))
        cut.items = cut.items[:first + 1]
        return cut


def schema(members: list[str]) -> list[dict]:
    """query-qmp-schema's answer, as far as it is about query-migrate."""
    return [{'name': 'query-migrate', 'meta-type': 'command', 'arg-type': '0',
             'ret-type': '17'},
            {'name': 'stop', 'meta-type': 'command', 'arg-type': '0',
             'ret-type': '0'},
            {'name': '17', 'meta-type': 'object',
             'members': [{'name': name, 'default': None, 'type': 'int'}
                         for name in members]}]


class ReplayedQemu:
    """Serves a recording on a unix socket, to one client after the other.

    @members: of MigrationInfo, in the schema, if not those of the recording
    @at_end: what happens after the last answer: it is repeated, or the
    connection is closed
    @hold: if set, the last answer is withheld until this event is
    @name: of the socket
    @status: what query-status tells
    commands: all that were given, by name
    """

    def __init__(self, directory: Path, recording: Recording,
                 members: tuple[str, ...] | None = None,
                 at_end: str = 'repeat', hold: threading.Event | None = None,
                 name: str = 'qmp', status: str = 'running'):
        self.path = directory / name
        self.recording = recording
        self.members = list(members or recording.members)
        self.status = status
        self.at_end = at_end
        self.hold = hold
        self.commands: list[str] = []
        self._items = list(recording.items)
        self._last: dict = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        for sock in self._listener, self._client:
            if sock:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.path.unlink()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                self._client, _ = self._listener.accept()
                with self._client:
                    self._serve(self._client)

    def _send(self, message: dict):
        self._client.sendall(json.dumps(message).encode() + b'\r\n')

    def _serve(self, client: socket.socket):
        self._send({'QMP': self.recording.greeting})
        with client.makefile('rb') as stream:
            for line in stream:
                request = json.loads(line)
                self.commands.append(request['execute'])
                answer = self._answer(request['execute'])
                if answer is None:
                    return
                self._send({'return': answer, 'id': request['id']})

    def _answer(self, command: str):
        if command == 'query-qmp-schema':
            return schema(self.members)
        if command == 'query-migrate':
            return self._migration()
        if command == 'query-status':
            return {'status': self.status}
        return {}

    def _migration(self) -> dict | None:
        while self._items:
            item = self._items.pop(0)
            if 'query-migrate' in item:
                if not self._items and self.hold:
                    self.hold.wait()
                self._last = item['query-migrate']
                return self._last
            stamp = round(item.get('sent', 0) * 1e6)
            self._send({'event': item['event'], 'data': item['data'],
                        'timestamp': {'seconds': stamp // 10 ** 6,
                                      'microseconds': stamp % 10 ** 6}})
        return None if self.at_end == 'close' else self._last
