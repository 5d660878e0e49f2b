# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell of the matrix is: a fault, a phase, and what is done about it"""

from dataclasses import dataclass
import fnmatch

READ, FLUSH = 'stuck read', 'stuck flush'
BACKEND_STOPPED = 'vhost-user backend stopped'
BACKEND_KILLED = 'vhost-user backend killed'
PIPE, PEER = 'pipe reader stalled', 'socket peer stopped'
KILLED, LINK = 'destination killed', "source's link cut"
FAULTS = [READ, FLUSH, BACKEND_STOPPED, BACKEND_KILLED, PIPE, PEER, KILLED,
          LINK]
DISK_FAULTS = {READ, FLUSH}
BACKEND_FAULTS = {BACKEND_STOPPED, BACKEND_KILLED}
CHANNEL_FAULTS = {PIPE, PEER, LINK}

APPROACH, QUIESCE, STOP = 'approach', 'quiesce', 'stop'
DEVICE_STOP, DRAIN, SAVE = 'device-stop', 'drain', 'save'
HOLD, ACTIVE = 'hold', 'post-copy active'
PHASES = [APPROACH, QUIESCE, STOP, DEVICE_STOP, DRAIN, SAVE, HOLD, ACTIVE]

WAIT, CANCEL = 'wait', 'cancel'
ACTIONS = [WAIT, CANCEL]

TOGETHER, ALONE = 'together', 'alone'

# Features: parameters, capabilities, and a channel.
DRAIN_TIMEOUT, ITERATION_LIMIT = 'drain-timeout', 'iteration-limit'
INFLIGHT_FREE = 'inflight-free-switchover'
PARALLEL = 'parallel-vmstate-change'
READY, RETURN_PATH = 'postcopy-ready', 'return-path'
FEATURES = {DRAIN_TIMEOUT, ITERATION_LIMIT, INFLIGHT_FREE, PARALLEL, READY,
            RETURN_PATH}

NEEDED_BY_FAULT = {
    READ: {DRAIN_TIMEOUT}, FLUSH: {DRAIN_TIMEOUT},
    BACKEND_STOPPED: {DRAIN_TIMEOUT, PARALLEL},
    BACKEND_KILLED: {DRAIN_TIMEOUT, PARALLEL}}
# The guest is stopped for as long as it takes, so that there is time.
NEEDED_BY_PHASE = {
    QUIESCE: {INFLIGHT_FREE}, STOP: {DRAIN_TIMEOUT}, DRAIN: {DRAIN_TIMEOUT},
    DEVICE_STOP: {DRAIN_TIMEOUT, PARALLEL}, HOLD: {READY}}
# Without these there is no such phase, or no event that tells of it.
NECESSARY = {QUIESCE: INFLIGHT_FREE, DEVICE_STOP: PARALLEL, STOP: READY,
             HOLD: READY}


@dataclass(frozen=True)
class Cell:
    """One of the matrix."""
    fault: str
    phase: str
    action: str
    mode: str

    @property
    def name(self) -> str:
        return f'{self.fault}/{self.phase}/{self.action}/{self.mode}'

    @property
    def slug(self) -> str:
        return self.name.replace(' ', '-').replace("'", '').replace('/', '.')

    @property
    def is_postcopy(self) -> bool:
        return self.phase in (HOLD, ACTIVE)

    @property
    def features(self) -> frozenset[str]:
        """What is switched on, if QEMU has it."""
        if self.mode == TOGETHER:
            return frozenset(FEATURES)
        needed = set(NEEDED_BY_FAULT.get(self.fault, ()))
        needed |= NEEDED_BY_PHASE.get(self.phase, set())
        if self.fault == PIPE and self.is_postcopy:
            needed.add(RETURN_PATH)
        return frozenset(needed)

    @property
    def has_backend(self) -> bool:
        """A vhost-user network card, with a backend on either side."""
        return (self.mode == TOGETHER or self.fault in BACKEND_FAULTS or
                self.phase == DEVICE_STOP)

    def does_not_apply(self, known: set[str]) -> str:
        """Why a QEMU that knows these features has no such cell; or nothing.

        With all of them there is none: see the documentation for cells in
        which the outcome is of its own kind.
        """
        lacks = NECESSARY.get(self.phase)
        if lacks and lacks not in known:
            return f'without {lacks} there is no phase {self.phase}'
        is_one_way = self.fault == PIPE and RETURN_PATH not in known
        if is_one_way and self.is_postcopy:
            return 'without a return path there is no post-copy over a pipe'
        return ''

    def matches(self, pattern: str) -> bool:
        """FAULT[/PHASE[/ACTION[/MODE]]], each of them with * and ?"""
        wanted = pattern.split('/')
        mine = self.name.split('/')
        return len(wanted) <= len(mine) and all(
            fnmatch.fnmatchcase(have, want or '*')
            for have, want in zip(mine, wanted))


def all_cells(modes: list[str]) -> list[Cell]:
    return [Cell(fault, phase, action, mode)
            for mode in modes for fault in FAULTS for phase in PHASES
            for action in ACTIONS]
