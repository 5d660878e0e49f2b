# SPDX-License-Identifier: GPL-2.0-or-later
"""What a measurement was made on, for those who read it elsewhere"""

import os
from pathlib import Path
import platform
import re
import subprocess
import time

from common import BUILD, TOP, load_json


def _first(path: str, pattern: str) -> str | None:
    try:
        match = re.search(pattern, Path(path).read_text(errors='replace'),
                          re.MULTILINE)
    except OSError:
        return None
    return match[1].strip() if match else None


def _git(*words: str) -> str:
    try:
        return subprocess.run(['git', '-C', str(TOP), *words], text=True,
                              stdout=subprocess.PIPE, check=True,
                              stderr=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def series() -> str:
    """The commit that this tree is of, and whether it was changed since."""
    commit = _git('rev-parse', '--short=12', 'HEAD')
    if not commit:
        return 'not a git checkout'
    changed = _git('status', '--porcelain', '--untracked-files=no')
    return commit + (' and changes' if changed else '')


def base_version() -> str:
    """Of the QEMU that the patches are applied to."""
    for side in 'stock', 'patched':
        version = load_json(BUILD / side / 'tree.json', {}).get('version')
        if version:
            return version
    return 'not known'


def describe() -> dict[str, str]:
    """Words on machine and software, in the order to show them in."""
    memory = int(_first('/proc/meminfo', r'^MemTotal:\s*(\d+)') or 0)
    # Of a virtual machine it is worth to know that it is one.
    virtual = _first('/proc/cpuinfo', r'^flags\s*:.*\b(hypervisor)\b')
    system = _first('/etc/os-release', r'^PRETTY_NAME="?([^"\n]*)')
    return {
        'processor': _first('/proc/cpuinfo', r'^model name\s*:(.*)$') or
                     platform.machine(),
        'processors': f'{os.cpu_count()}' +
                      (', of a virtual machine' if virtual else ''),
        'memory': f'{memory / (1 << 20):.1f} GiB',
        'system': system or platform.system(),
        'kernel': platform.release(),
        'load': ', '.join(f'{load:.2f}' for load in os.getloadavg()),
        'date': time.strftime('%Y-%m-%d %H:%M %Z'),
        'QEMU': f'{base_version()}, -accel tcg',
        'patch series': series(),
    }
