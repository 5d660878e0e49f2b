# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch series: patches/series, the patches, and their overlay files.

patches/series names one patch a line, in the order in which they apply, and
below each, indented, the overlay files that come into being with it:

    0001-block-add-something.patch
        + block/something.c
        + include/block/something.h
    # a comment

An overlay file is a whole new file of QEMU's tree.  It lives in this
repository at the path that it has there.
"""

import re
import shutil
import subprocess
from pathlib import Path

from common import Error, PATCHES, TOP

PATCH_NAME = re.compile(r'^(\d{4})-[a-z0-9][a-z0-9-]*\.patch$')
SOURCE_DIRS = ('migration', 'block', 'hw', 'io', 'qapi', 'include', 'stubs',
               'system')


class Patch:
    """One line of the series: a file with hooks, and an overlay slice."""

    def __init__(self, name, line):
        self.name = name
        self.number = PATCH_NAME.match(name).group(1)
        self.path = PATCHES / name
        self.line = line
        self.overlay = []
        self._text = None

    @property
    def text(self):
        if self._text is None:
            try:
                self._text = self.path.read_bytes()
            except FileNotFoundError:
                raise Error(f'patches/series:{self.line}: '
                            f'patches/{self.name} does not exist')
        return self._text

    def hunks(self):
        """Existing file -> number of hunks, in the order of the patch."""
        found = {}
        name = None
        left_old = left_new = 0
        for line in self.text.decode(errors='replace').split('\n'):
            if left_old > 0 or left_new > 0:
                if line.startswith('-'):
                    left_old -= 1
                elif line.startswith('+'):
                    left_new -= 1
                elif line.startswith('\\'):
                    pass
                else:
                    left_old -= 1
                    left_new -= 1
                continue
            if line.startswith('--- ') and line != '--- ':
                name = None
                if line.split('\t')[0] == '--- /dev/null':
                    raise Error(f'patches/{self.name} creates a file: new '
                                'files belong into the overlay')
            elif line.startswith('+++ '):
                where = line[4:].split('\t')[0].strip()
                if where == '/dev/null':
                    raise Error(f'patches/{self.name} deletes a file')
                if not where.startswith('b/'):
                    raise Error(f'patches/{self.name}: "{line}" does not '
                                'begin with b/ (git diff writes it so)')
                name = where[2:]
                found.setdefault(name, 0)
            elif line.startswith('@@ ') and name:
                match = re.match(r'^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@',
                                 line)
                if not match:
                    raise Error(f'patches/{self.name}: bad hunk "{line}"')
                left_old = int(match.group(1) or 1)
                left_new = int(match.group(2) or 1)
                found[name] += 1
        return found


def check_overlay_path(where, path):
    parts = Path(path).parts
    if not parts or path.startswith('/') or '..' in parts:
        raise Error(f'{where}: "{path}" is not a path inside the tree')


def load():
    """Read patches/series; an absent one is an empty series."""
    patches = []
    owner = {}
    try:
        lines = (PATCHES / 'series').read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        return patches
    for number, raw in enumerate(lines, 1):
        where = f'patches/series:{number}'
        line = raw.split('#', 1)[0].rstrip()
        if not line.strip():
            continue
        if not line[0].isspace():
            if not PATCH_NAME.match(line):
                raise Error(f'{where}: "{line}" is not of the form '
                            'NNNN-subsystem-verb-object.patch')
            if any(line[:4] <= patch.number for patch in patches):
                raise Error(f'{where}: {line} is out of order')
            patches.append(Patch(line, number))
            continue
        words = line.split()
        if len(words) != 2 or words[0] != '+':
            raise Error(f'{where}: expected "    + path/of/overlay/file"')
        if not patches:
            raise Error(f'{where}: an overlay file before the first patch')
        path = words[1]
        check_overlay_path(where, path)
        if path in owner:
            raise Error(f'{where}: {path} belongs to {owner[path]} already')
        if not (TOP / path).is_file():
            raise Error(f'{where}: {path} does not exist in this repository')
        owner[path] = patches[-1].name
        patches[-1].overlay.append(path)
    return patches


def overlay_files(patches):
    return [path for patch in patches for path in patch.overlay]


def touched_files(patches):
    """Existing files of QEMU that any of the patches changes, sorted."""
    return sorted({name for patch in patches for name in patch.hunks()})


def unlisted_overlay():
    """Files under the mirrored source folders that no patch lists."""
    listed = set(overlay_files(load()))
    found = []
    for folder in SOURCE_DIRS:
        for path in sorted((TOP / folder).rglob('*')):
            name = str(path.relative_to(TOP))
            if path.is_file() and name not in listed:
                found.append(name)
    return found


def apply_patch(patch, tree):
    """Apply one patch in tree with no fuzz; say which hunk did not apply."""
    result = subprocess.run(
        ['patch', '-p1', '--fuzz=0', '--forward', '--batch',
         '--no-backup-if-mismatch', '--reject-file=-', '-i',
         str(patch.path)],
        cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False)
    if result.returncode:
        output = result.stdout.decode(errors='replace').rstrip()
        raise Error(f'patches/{patch.name} does not apply:\n{output}')


def copy_touched(names, base, tree):
    for name in names:
        source = Path(base) / name
        if not source.is_file():
            raise Error(f'the series changes {name}, which {base} does not '
                        'have')
        target = Path(tree) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def patched_content(patches, base, tree):
    """Fill tree with the files that patches touch, as they are after all."""
    names = touched_files(patches)
    copy_touched(names, base, tree)
    for patch in patches:
        if patch.hunks():
            apply_patch(patch, tree)
    return names
