# SPDX-License-Identifier: GPL-2.0-or-later
"""What each migration of the soak is, which depends on the seed alone

A turn is one call of "migrate".  It either moves the guest to a new process, or
it is made to fail in some manner, and then the same process has the guest, and
is the source of the next turn as well.  There are stretches of turns that move,
and of turns that stay, so that what a source leaks adds up in one process.

turn(seed, number) is a function of nothing else: a turn that found something
can be had again.
"""

from dataclasses import asdict, dataclass
from random import Random

# In each 50: some that move, some that stay, and again.
STRETCHES = [(15, False), (10, True), (5, False), (20, True)]
PERIOD = sum(length for length, _ in STRETCHES)

MIB = 1 << 20
SLOW = 4 * MIB                  # no pre-copy ends before it is backed out of

PRECOPY = ['pre-copy', 'multifd']
POSTCOPY = ['post-copy', 'preempt', 'passes']
READY = ['ready', 'ready-preempt', 'ready-passes']

# What is done to a turn that moves, and how often
FAULTS = {'nothing': 5, 'disk': 6, 'peer': 3, 'cancel': 4, 'recover': 3,
          'disk+peer': 2}
# How a turn ends that stays
MANNERS = {'cancel': 4, 'kill': 3, 'disk+cancel': 3, 'peer+cancel': 2,
           'drain-fail': 3, 'nobody': 1, 'refused': 1,
           'switchover-cancel': 2, 'switchover-kill': 2,
           'hold-cancel': 4, 'hold-timeout': 2, 'hold-kill': 2}


@dataclass(frozen=True)
class Turn:
    """One migration.  Times are seconds.

    @stays: it is not to complete
    @fault: of FAULTS, or of MANNERS if it stays
    @at: when the fault comes, from "migrate" on
    @lasts: how long a disk hangs, or the destination is stopped
    @disk: which one hangs: 0 raw, 1 qcow2, None both
    @begin: when post-copy is asked for
    @hold: how long the destination is kept waiting when it is ready
    @by_destination: the commit is its "cont"
    @tcp, @channel: where it goes; with a channel return-path
    @patient: the destination does not exit if the migration fails
    @pauses: with pause-before-switchover
    @bandwidth, @postcopy_bandwidth: bytes per second; 0 is no limit
    @mode: what the guest does with its disks
    @clear: the dirty bitmaps are cleared before
    @shared: the destination's memory is a memfd's
    @iteration_limit, ...: milliseconds; the parameters of that name
    """
    number: int
    stays: bool
    fault: str
    kind: str
    at: float
    lasts: float
    disk: int | None
    begin: float
    hold: float
    by_destination: bool
    tcp: bool
    channel: bool
    bitmaps: bool
    pauses: bool
    return_path: bool
    patient: bool
    bandwidth: int
    postcopy_bandwidth: int
    mode: str
    clear: bool
    shared: bool
    iteration_limit: int
    stall_threshold: int
    drain_timeout: int
    quiesce_window: int

    @property
    def postcopy(self) -> bool:
        return self.kind not in PRECOPY

    @property
    def ready(self) -> bool:
        return self.kind in READY

    def has(self, fault: str) -> bool:
        return fault in self.fault.split('+')

    @property
    def outcomes(self) -> list[str]:
        """The statuses it may end with."""
        if not self.stays:
            return ['completed'] + \
                (['cancelled'] if self.has('cancel') else [])
        if self.fault.endswith('cancel'):
            return ['cancelled']
        return ['failed']

    def where(self) -> str:
        return ('tcp' if self.tcp else 'unix') + \
            ('+rp' if self.channel else '')

    def settings(self) -> dict:
        return asdict(self)


def stays(number: int) -> bool:
    """Turns are counted from 1."""
    place = (number - 1) % PERIOD
    for length, answer in STRETCHES:
        if place < length:
            return answer
        place -= length
    raise AssertionError('the stretches are shorter than the period')


def _choose(random: Random, weights: dict[str, int]) -> str:
    return random.choices(list(weights), list(weights.values()))[0]


def _kind(random: Random, fault: str) -> str:
    """Some faults are for some kinds only."""
    if fault.startswith('hold-'):
        return random.choice(READY)
    if fault == 'recover':
        return random.choice(POSTCOPY + READY)
    if fault == 'refused':
        return random.choice(POSTCOPY)
    if fault.startswith('switchover-') or fault == 'drain-fail':
        return random.choice(PRECOPY)
    return random.choice(PRECOPY * 2 + POSTCOPY + READY)


def turn(seed: int, number: int) -> Turn:
    """The same for the same arguments."""
    # A string, since Random does not take pairs; 2 is what it hashes it with.
    random = Random()
    random.seed(f'{seed}/{number}', version=2)
    staying = stays(number)
    fault = _choose(random, MANNERS if staying else FAULTS)
    kind = _kind(random, fault)
    slow = staying and fault.endswith(('cancel', 'kill')) and \
        not fault.startswith(('hold-', 'switchover-'))
    pauses = fault.startswith('switchover-') or \
        kind in PRECOPY and random.random() < 0.2
    return Turn(
        number=number, stays=staying, fault=fault, kind=kind,
        at=round(random.uniform(0, 1.2), 3),
        lasts=round(random.uniform(0.2, 3 if 'disk' in fault else 2), 3),
        disk=random.choice([0, 0, 1, 1, None]),
        begin=round(random.uniform(0, 0.5), 3),
        hold=round(random.uniform(0, 0.4), 3),
        by_destination=random.random() < 0.3,
        tcp=random.random() < 0.5,
        channel=random.random() < 0.4,
        # A post-copy that is interrupted gives them up, in unpatched 10.0, too.
        bitmaps=random.random() < 0.6 and fault != 'recover',
        pauses=pauses,
        return_path=random.random() < 0.7,
        patient=random.random() < 0.4,
        bandwidth=SLOW if slow else
        random.choice([64 * MIB, 32 * MIB, 16 * MIB]),
        postcopy_bandwidth=8 * MIB if fault == 'recover' else 0,
        mode=random.choice(['rw', 'rw', 'rw', 'write', 'flush', 'read',
                            'discard']),
        clear=random.random() < 0.4,
        shared=random.random() < 0.5,
        iteration_limit=random.choice([0, 5, 20, 50]),
        stall_threshold=random.choice([100, 500, 1000]),
        drain_timeout=random.choice([100, 200, 500]),
        quiesce_window=random.choice([50, 100, 500]))
