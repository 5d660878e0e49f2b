# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a migration goes, in QMP's words: arguments of migrate and its kin"""


def unix(path) -> dict:
    return {'transport': 'socket', 'type': 'unix', 'path': str(path)}


def inet(port: int, host: str) -> dict:
    return {'transport': 'socket', 'type': 'inet', 'host': host,
            'port': str(port)}


def channels(main: dict, return_path: dict | None = None) -> dict:
    """An argument of migrate, migrate-incoming and migrate-recover."""
    found = [{'channel-type': 'main', 'addr': main}]
    if return_path:
        found.append({'channel-type': 'return-path', 'addr': return_path})
    return {'channels': found}
