# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that a migration writes to, and which can be stopped

To QEMU a reader that is stopped is a disk below it that does not write.  With a
FrozenDisk it is one, and then not even SIGKILL ends the reader.
"""

import contextlib
import os
import select
import signal

from frozendisk import FrozenDisk
from vm import Vm, until

STARTS_WITHIN_S = 10


class Reader:
    """The child of a QEMU that migrates to "exec:exec ..."."""

    can_be_killed = True        # also while it does not read

    def __init__(self, pid: int):
        # Not by its number: QEMU may end it, and the number be somebody else's.
        self._fd = os.pidfd_open(pid)
        self.pid = pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go_on()
        os.close(self._fd)

    def _send(self, number: int):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def stop(self):
        self._send(signal.SIGSTOP)

    def go_on(self):
        self._send(signal.SIGCONT)

    @property
    def gone(self) -> bool:
        """It has ended."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))


class FrozenReader(Reader):
    """One that writes to a disk that does not."""

    can_be_killed = False

    def __init__(self, pid: int, disk: FrozenDisk):
        super().__init__(pid)
        self._disk = disk

    def stop(self):
        self._disk.freeze()

    def go_on(self):
        self._disk.thaw()


async def reader_of(vm: Vm, disk: FrozenDisk | None = None) -> Reader:
    """The only child of @vm."""
    def only_child():
        children = vm.process.children()
        return children if len(children) == 1 else None
    pid, = await until(only_child, STARTS_WITHIN_S, 'the reader')
    return FrozenReader(pid, disk) if disk else Reader(pid)
