# SPDX-License-Identifier: GPL-2.0-or-later
"""How long QEMU's monitor takes to answer"""

import contextlib
from dataclasses import dataclass
import socket
import threading
import time

from qmp import Connection, QmpError
from stamped import since


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
        took = [a.took for a in since(self.answers, start) if a.at <= end]
        if end >= time.monotonic():
            took.append(self.waiting())
        return max(took, default=0)
