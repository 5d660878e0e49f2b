# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks the monitors of two QEMUs about a migration, both at the same time

Each monitor has a thread, which waits for nothing else: so a monitor that does not
answer delays no other, and arrivals are timed when they arrive.  The threads put
what came into one queue, in the form that switchoverrecord.py takes.
"""

import queue
import threading
import time

from qmp import Connection, QmpError

LOOK_S = 0.2            # how often a thread looks whether it shall end
# While an answer is due, a thread wakes up as often as this: so it notices when it
# was itself that did not get to run, and does not blame QEMU for that.
WAKE_S = 0.01


class MonitorWatch(threading.Thread):
    """One monitor.

    @begun: when time began, on time.monotonic()'s clock
    @out: where to put what comes

    asked: since when a question is open, None if none is
    """

    def __init__(self, side: str, qmp: Connection, begun: float,
                 interval_s: float, out: queue.SimpleQueue):
        super().__init__(daemon=True)
        self.side = side
        self.qmp = qmp
        self.interval_s = interval_s
        self.asked: float | None = None
        self._out = out
        self._begun = begun
        self._taken = 0
        self._stopping = threading.Event()

    def now(self) -> float:
        return time.monotonic() - self._begun

    def waiting(self) -> float:
        """For how long a question has been open, in seconds."""
        asked = self.asked
        return self.now() - asked if asked is not None else 0

    def stop(self):
        self._stopping.set()
        self.join()
        self.qmp.close()

    def _put(self, at: float, **what):
        self._out.put({'side': self.side, 'at': round(at, 6), **what})

    def _take_events(self):
        for event in self.qmp.events[self._taken:]:
            self._taken += 1
            # Our own wall clock at that time: it may be set meanwhile.
            wall = time.time() - (time.monotonic() - event.at)
            self._put(event.at - self._begun, event=event.name,
                      data=event.data, sent=event.sent, wall=round(wall, 6))

    def _read(self, seconds: float):
        self.qmp.read(min(seconds, LOOK_S))
        self._take_events()

    def _ask(self):
        late = 0.0
        self.asked = woken = self.now()
        request = self.qmp.ask('query-migrate')
        while not request.answered and not self._stopping.is_set():
            self._read(WAKE_S)
            slept = self.now() - woken
            woken += slept
            late += max(0, slept - 2 * WAKE_S)
        what = {'query-migrate': request.result()} if request.answered else \
            {'unanswered': True}
        self._put(self.now(), asked=round(self.asked, 6), late=round(late, 6),
                  **what)
        self.asked = None

    def _rest(self):
        until = self.now() + self.interval_s
        while (left := until - self.now()) > 0 and not self._stopping.is_set():
            self._read(left)

    def run(self):
        try:
            while not self._stopping.is_set():
                self._ask()
                self._rest()
        except QmpError as err:
            self._take_events()
            self.asked = None
            self._put(self.now(), lost=str(err))
