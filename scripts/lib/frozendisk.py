# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system that can be frozen: what writes to it hangs (needs root)

It is in a file, on a loop device.  A guard, a shell that waits for its standard
input to end, thaws and unmounts it, whatever becomes of this process.
"""

import os
from pathlib import Path
import shutil
import subprocess

TOOLS = ['mkfs.ext4', 'mount', 'umount', 'fsfreeze']
GUARD = '''
read _
fsfreeze -u "$1" 2>/dev/null
umount "$1" || { sleep 1; umount -l "$1"; }
'''


class FreezeError(Exception):
    """It cannot be had."""


def problem() -> str | None:
    """Why it cannot be had, if so."""
    if os.geteuid():
        return 'freezing a file system needs root'
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    return f'{missing[0]} is not installed' if missing else None


def _run(*command):
    try:
        subprocess.run([str(word) for word in command], check=True, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    except subprocess.CalledProcessError as err:
        raise FreezeError(f'{command[0]}: {err.stdout.strip()}') from err


class FrozenDisk:
    """An empty file system of @mib MiB, mounted at @directory."""

    def __init__(self, directory: Path, mib: int):
        self.directory = directory
        self.image = directory.with_suffix('.img')
        self.mib = mib
        self._device = 0
        self._guard: subprocess.Popen | None = None

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.image, 'wb') as image:
            image.truncate(self.mib << 20)
        before = os.stat(self.directory).st_dev
        try:
            _run('mkfs.ext4', '-q', '-F', '-m', '0', self.image)
            _run('mount', '-o', 'loop', self.image, self.directory)
        except FreezeError:
            self.image.unlink()
            raise
        self._guard = subprocess.Popen(
            ['sh', '-c', GUARD, 'sh', str(self.directory)],
            stdin=subprocess.PIPE, start_new_session=True)
        self._device = os.stat(self.directory).st_dev
        if self._device == before:
            self.__exit__()
            raise FreezeError(f'nothing is mounted at {self.directory}')
        return self

    def __exit__(self, *_):
        self._guard.communicate(b'\n')
        self.image.unlink()
        self.directory.rmdir()

    def _is_ours(self) -> bool:
        return os.stat(self.directory).st_dev == self._device

    def freeze(self):
        """Returns when it is."""
        if not self._is_ours():
            raise FreezeError(f'{self.directory} is not mounted any more')
        _run('fsfreeze', '-f', self.directory)

    def thaw(self):
        """Harmless if it is not frozen."""
        if self._is_ours():
            subprocess.run(['fsfreeze', '-u', str(self.directory)],
                           stderr=subprocess.DEVNULL, check=False)
