# SPDX-License-Identifier: GPL-2.0-or-later
"""All benchmarks: what each is about, and the measures to show of it"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from summary import Part, Point


@dataclass(frozen=True)
class Benchmark:
    """@name: of the program in this directory, and of its results

    @about: a paragraph for who has not read the program
    @quick: options for a run that is only to see whether it works
    """
    name: str
    title: str
    about: str
    parts: tuple[Part, ...]
    quick: tuple[str, ...] = ()


def of(key: str, value: str | Callable, row: str | Callable = '',
       panel: str | Callable = '', wanted: Callable = lambda _: True,
       where: str = 'results', turn: Callable = lambda r: r['turn']):
    """The points of a list of results: members by name, or by a function."""
    def get(what, result):
        if callable(what):
            return what(result)
        return result[what] if what else ''

    def points(data: dict) -> Iterable[Point]:
        for result in data.get(where, []):
            if wanted(result):
                yield Point(get(key, result), turn(result),
                            get(value, result), get(row, result),
                            get(panel, result))
    return points


# ---- inflight-free ----------------------------------------------------------

def _latency(result: dict) -> int:
    return result['config']['latency_ms']


def _depth(result: dict) -> str:
    return f'{result["config"]["depth"]} in flight'


def _inflight(title: str, member: str) -> Part:
    return Part(title, 'ms', of('variant', member, _latency, _depth),
                "disk's latency in ms", lambda ms: f'{ms} ms', log=True)


INFLIGHT_FREE = Benchmark(
    'inflight-free', 'Switchover with requests in flight',
    'A guest writes to disks that take their time, with a number of requests '
    'in flight, and is migrated. "on" is inflight-free-switchover; "off" is '
    'the patched QEMU without it.',
    (_inflight('downtime, as QEMU reports it', 'downtime_ms'),
     _inflight("the guest's longest silence around the switchover",
               'silence_ms'),
     _inflight('longest time in which the guest could begin no request',
               'lull_ms')),
    ('--quick',))

CONVERGENCE = Benchmark(
    'convergence', 'Migrations that hardly converge',
    'A guest dirties memory nearly as fast as the link of 64 MiB/s carries it, '
    'and works on a slow disk. Waiting for a moment without requests in flight '
    'must not make the migration last much longer.',
    (Part('total time', 'ms', of('variant', 'total_ms', 'dirty'),
          'dirtied', lambda rate: f'{rate} MiB/s'),
     Part('downtime', 'ms', of('variant', 'downtime_ms', 'dirty'),
          'dirtied', lambda rate: f'{rate} MiB/s')))

# ---- load -------------------------------------------------------------------

LOAD = Benchmark(
    'load', 'Loading many devices',
    'An idle guest with many virtio devices is migrated. Nothing has to be '
    'enabled: the destination rebuilds its maps of memory once instead of for '
    'each device.',
    (Part('from STOP to RESUME', 'ms',
          of('variant', 'blackout_ms', 'number'), 'devices', log=True,
          digits=1),
     Part('cost of the last device', 'us', of('variant', 'last_us', 'number'),
          'devices', log=True)),
    ('--devices', '8,16'))

# ---- vmstate-change ---------------------------------------------------------

def _devices(result: dict) -> str:
    return f'{result["kind"]["nics"]} + {result["kind"]["disks"]}'


def _mode(result: dict) -> str:
    return result['kind']['latency'].split(' ')[0]


def _sum_ms(result: dict) -> float:
    return result['stop_ms'] + result['start_ms']


def _turns(title: str, value) -> Part:
    return Part(title, 'ms',
                of('variant', value, _devices, _mode,
                   lambda r: r['kind']['latency'] and r['kind']['nics'],
                   where='turns'),
                'network cards + disks', log=True,
                x=lambda words: sum(map(int, words.split(' + '))))


VMSTATE_CHANGE = Benchmark(
    'vmstate-change', 'Stopping and starting many vhost-user devices',
    'Network cards of 32 queue pairs and disks of 4 queues, whose backends take '
    'a time to look at what arrived ("wakeup") or for each message ("serial"). '
    '"on" is parallel-vmstate-change; "off" is the patched QEMU without it.',
    (_turns('stop and start', _sum_ms), _turns('stop', 'stop_ms'),
     Part('stop and start, backends that answer at once', 'ms',
          of('variant', _sum_ms, _devices,
             wanted=lambda r: not r['kind']['latency'], where='turns'),
          'network cards + disks', digits=1),
     Part('migration: devices start at the destination', 'ms',
          of('variant', 'start_ms', where='migrations')),
     Part('migration: downtime', 'ms',
          of('variant', 'downtime_ms', where='migrations'))),
    ('--parts', 'immediate,migration'))

# ---- post-copy --------------------------------------------------------------

def _pass(result: dict) -> str:
    words = result['variant']
    if not words.isdigit():
        return words
    return f'after {words} pass' + ('es' if words != '1' else '')


POSTCOPY = Benchmark(
    'postcopy', 'Post-copy after some passes, and held',
    'A guest that writes to its memory all the time is migrated by post-copy, '
    'with postcopy-preempt, over a link of 1 Gbit/s: at once, after passes of '
    'pre-copy (postcopy-after-passes), and held at the destination until it is '
    'told to go on (postcopy-ready); "local" is that over a unix socket, where '
    'a round trip takes no time.',
    (Part("the guest's longest silence", 'ms', of(_pass, 'silence_ms')),
     Part('total time', 'ms', of(_pass, 'total_ms')),
     Part("hold: from the last vCPU's pause to ready", 'ms',
          of(_pass, 'ready_ms', wanted=lambda r: r['ready_ms'] is not None),
          digits=1),
     Part('hold: from the commit to the first guest instruction', 'ms',
          of(_pass, 'commit_ms', wanted=lambda r: r['commit_ms'] is not None),
          digits=1)))


def _tls(result: dict) -> str:
    return 'TLS' if result['variant'].endswith(' tls') else 'plain'


def _kind(result: dict) -> str:
    return result['variant'].removesuffix(' tls')


def _waits(title: str, member: str) -> Part:
    return Part(title, 'ms', of(_kind, member, _tls), 'link', log=True,
                digits=1)


RETURN_PATH = Benchmark(
    'return-path', 'Waiting for a page in post-copy',
    'All of a guest\'s memory is on its way through a link of 1 Gbit/s that it '
    'saturates, and the guest touches pages at random. "ours" has a channel of '
    'type return-path, "preempt" the unpatched postcopy-preempt, "small '
    'buffers" the unpatched QEMU with send buffers of 64 KiB at most.',
    (_waits('half of the waits are below', 'p50_ms'),
     _waits('99 % of the waits are below', 'p99_ms'),
     Part('memory sent during post-copy', 'MiB/s',
          of(_kind, 'mib_per_s', _tls), 'link', higher=True)),
    ('--only', 'stock,ours'))

# ---- iterations -------------------------------------------------------------

def _of_round(result: dict):
    return result['turn'], result.get('round')


def _cancels(data: dict) -> Iterable[Point]:
    """Several in one turn are pairs in their order."""
    seen: dict[tuple, int] = {}
    for result in data.get('cancelled', []):
        key = result['variant'], result['turn'], result['where']
        seen[key] = seen.get(key, -1) + 1
        yield Point(result['variant'], (result['turn'], seen[key]),
                    result['ms'], result['where'])


ITERATIONS = Benchmark(
    'iterations', 'A reader that stalls',
    'A guest of 2 GiB is saved through a pipe whose reader stalls for five '
    'seconds, in the memory and in the completion. An unpatched QEMU mostly '
    'completes instead of being cancelled in the completion, which counts as '
    'no value. Throughput and completion are of migrations where nothing stalls.',
    (Part('longest iteration', 'ms',
          of('variant', 'longest_ms', where='stalled'), log=True),
     Part("monitor's longest answer, in the memory", 'ms',
          of('variant', 'monitor_ram_ms', where='stalled'), digits=1),
     Part("monitor's longest answer, in the completion", 'ms',
          of('variant', 'monitor_completion_ms', where='stalled'), log=True,
          digits=1),
     Part('until a cancel has its effect', 'ms', _cancels, 'stalls in',
          log=True, digits=1),
     Part('throughput', 'MiB/s',
          of('variant', 'mib_per_s', 'to', where='sent', turn=_of_round),
          'into', higher=True),
     Part('completion of an idle guest', 'ms',
          of('variant', 'ms', where='down', turn=_of_round), digits=1)))

# ---- cost -------------------------------------------------------------------

def _moved(title: str, member: str, unit: str = 'ms', digits: int = 1,
           higher: bool = False) -> Part:
    return Part(title, unit, of('variant', member, where='moved'),
                digits=digits, higher=higher)


COST = Benchmark(
    'cost', 'What all of it costs',
    'Throughput of a paused guest\'s memory into a reader that throws it away, '
    'and the migration of a guest that works on a disk now and then. "off" is '
    'the patched QEMU with nothing of ours enabled, "on" with everything that '
    'can be. "stock again" is a second process of the unpatched QEMU: its ratio '
    'is how much two differ that are alike.',
    (Part('throughput', 'MiB/s',
          of('variant', 'mib_per_s', 'to', where='sent', turn=_of_round),
          'into', higher=True),
     Part("processors' time of QEMU", 'ms per GiB',
          of('variant', 'cpu_ms', 'to', where='sent', turn=_of_round),
          'into'),
     _moved('throughput of a migration to a destination', 'mib_per_s',
            'MiB/s', 0, True),
     _moved('downtime, as QEMU reports it', 'downtime_ms'),
     _moved("from the source's STOP to the destination's RESUME",
            'blackout_ms'),
     _moved("the guest's longest silence around the switchover",
            'silence_ms'),
     _moved('total time', 'total_ms', digits=0)),
    ('--rounds', '2', '--migrations', '1'))

BENCHMARKS = [COST, INFLIGHT_FREE, CONVERGENCE, LOAD, VMSTATE_CHANGE,
              POSTCOPY, RETURN_PATH, ITERATIONS]
NAMES = [benchmark.name for benchmark in BENCHMARKS]
