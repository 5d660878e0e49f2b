# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's events about a migration, in words"""

from iterationview import seconds, size

REQUESTS_SHOWN = 2


def describe_request(request: dict) -> str:
    """One entry of MIGRATION_DRAIN_TIMEOUT's requests in words."""
    text = request['kind']
    if request.get('bytes'):
        text += f' of {request["bytes"]} bytes'
    if 'offset' in request and request['kind'] != 'flush':
        text += f' at {request["offset"]:#x}'
    text += f' on node {request["node"]}'
    if request.get('device'):
        text += f', device {request["device"]}'
    if 'age-ms' in request:
        text += f', waiting for {request["age-ms"]} ms'
    return text


def describe_timeout(data: dict) -> list[str]:
    """MIGRATION_DRAIN_TIMEOUT in words, a line each."""
    requests = data['requests']
    lines = [f'attempt {data["attempt"]} timed out after {data["elapsed-ms"]} '
             f'ms, action: {data["action"]}; the guest runs on here']
    lines += [f'  stuck: {describe_request(r)}'
              for r in requests[:REQUESTS_SHOWN]]
    more = len(requests) - REQUESTS_SHOWN + data.get('requests-omitted', 0)
    if more > 0:
        lines.append(f'  and {more} more')
    lines += [f'  backend does not answer: {device}'
              for device in data.get('devices', [])]
    return lines


def describe_stall(data: dict) -> list[str]:
    blocked = seconds(data['blocked-ms'] / 1000)
    if data['ended']:
        return [f'the channel takes data again, after {blocked}']
    return [f'STALLED: the channel has taken nothing for {blocked}, '
            f'{size(data["bytes-queued"])} queued (phase {data["phase"]})']


def describe_stopped(data: dict) -> list[str]:
    return [f'vCPUs paused, in pass {data["pass"]}, '
            f'{size(data["remaining"])} of memory to be sent']


WORDS = {
    'MIGRATION': lambda data: [f'status {data["status"]}'],
    'MIGRATION_PASS': lambda data: [f'pass {data["pass"]}'],
    'MIGRATION_SOURCE_STOPPED': describe_stopped,
    'MIGRATION_DRAIN_TIMEOUT': describe_timeout,
    'MIGRATION_STALLED': describe_stall,
    'MIGRATION_POSTCOPY_READY':
        lambda data: ['POSTCOPY_READY: the destination could run the guest'],
    'STOP': lambda data: ['STOP'],
    'RESUME': lambda data: ['RESUME'],
}
LOUD = ('MIGRATION_DRAIN_TIMEOUT', 'BLOCK_IO_ERROR', 'GUEST_PANICKED')


def describe(name: str, data: dict) -> list[str]:
    """Any event in words, a line each; those that are not ours by name."""
    if name in WORDS:
        return WORDS[name](data)
    plain = [f'{key} {value}' for key, value in sorted(data.items())
             if isinstance(value, (str, int, float))]
    return [' '.join([name, *plain])[:100]]


def is_fault(name: str, data: dict) -> bool:
    return name in LOUD or name == 'MIGRATION_STALLED' and not data['ended'] \
        or name == 'MIGRATION' and data['status'] == 'failed'
