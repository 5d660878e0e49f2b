# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep a source tree below build/ equal to base + patches + overlay.

Only a file whose content has to change is written, so that ninja compiles
only what a change reaches.  Every file is replaced as a whole, and what is
about to be written is noted down in tree.json before it is, so that after an
interruption the next run can tell its own work from an edit of the user's.

An edit made in the prepared tree is kept, and reported, until
scripts/refresh-patch has made it part of a patch.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import basetree
import series
from common import (BUILD, Error, TOP, load_json, locked, remove, save_json,
                    say, scratch_dir, sha256_bytes, symlink_atomic,
                    write_atomic)

KINDS = ('patched', 'stock', 'prefix')
EDK2_PROBE = 'pc-bios/edk2-x86_64-code.fd.bz2'
EDK2_MESON = 'pc-bios/meson.build'


def source_dir(kind):
    return BUILD / kind / 'src'


def state_file(kind):
    return BUILD / kind / 'tree.json'


def base_files(tree):
    """Relative names of all files of a base tree that the build may need."""
    tree = Path(tree)
    names = basetree.git_files(tree)
    if names is not None:
        names = [name for name in names if os.path.lexists(tree / name)]
        # What meson has downloaded into a checkout is not part of it.
        extra = [tree / 'subprojects']
    else:
        names = []
        extra = [tree]
    seen = set(names)
    for start in extra:
        for folder, dirs, files in os.walk(start):
            here = Path(folder)
            if here == tree / 'roms':
                dirs.clear()
            dirs[:] = [name for name in dirs if name != '.git'
                       and not (here / name / 'config.status').exists()
                       and not (here / name
                                / 'auto-created-by-configure').exists()]
            for name in files + [name for name in dirs
                                 if (here / name).is_symlink()]:
                path = str((here / name).relative_to(tree))
                if path not in seen:
                    names.append(path)
    return sorted(name for name in names if not name.startswith('.switchover')
                  and not (name.startswith('roms/') and name.count('/') > 1))


def copy_file(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        remove(target)
        os.symlink(os.readlink(source), target)
    else:
        tmp = target.with_name(f'.tmp-{os.getpid()}-{target.name}')
        shutil.copy2(source, tmp)
        os.replace(tmp, target)


def fingerprint(path):
    info = os.lstat(path)
    return [info.st_size, info.st_mtime_ns]


def create(kind, base):
    """A fresh tree, or none: it gets its name when it is complete."""
    src = source_dir(kind)
    parent = src.parent
    remove(state_file(kind))
    for old in ['obj', 'src', *parent.glob('.new-*')]:
        remove(parent / old)
    tmp = parent / f'.new-{os.getpid()}'
    tmp.mkdir(parents=True)
    say(f'copying QEMU {base["version"]} to build/{kind}/src ...')
    seen = {}
    for name in base_files(base['tree']):
        source = Path(base['tree']) / name
        copy_file(source, tmp / name)
        if base['kind'] == 'directory':
            seen[name] = fingerprint(source)
    state = {'identity': base['identity'], 'version': base['version'],
             'files': {}, 'links': [], 'base': seen}
    os.replace(tmp, src)
    save_json(state_file(kind), state)
    return state


def follow_directory(kind, base, state):
    """Take over what changed in the user's own tree since the last time."""
    src = source_dir(kind)
    seen = state['base']
    now = {}
    for name in base_files(base['tree']):
        source = Path(base['tree']) / name
        now[name] = fingerprint(source)
        if name in state['files']:
            continue
        if seen.get(name) != now[name] or not os.path.lexists(src / name):
            copy_file(source, src / name)
            if not source.is_symlink():
                os.utime(src / name)
    for name in seen:
        if name not in now:
            remove(src / name)
    state['base'] = now
    state['version'] = base['version']
    save_json(state_file(kind), state)


def wanted_content(kind, base, patches):
    """Name -> (content, mode) of every file that differs from the base."""
    tree = Path(base['tree'])
    wanted = {}
    with scratch_dir('prepare') as scratch:
        for name in series.patched_content(patches, tree, scratch):
            wanted[name] = read(scratch / name)
        if not (tree / EDK2_PROBE).exists():
            # Debian's tarball has no firmware: there is nothing to unpack.
            content, mode = wanted.get(EDK2_MESON) or read(tree / EDK2_MESON)
            wanted[EDK2_MESON] = (content.replace(
                b'\nif unpack_edk2_blobs\n',
                b'\nif unpack_edk2_blobs and false\n'), mode)
    return wanted


def read(path):
    path = Path(path)
    return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)


class Conflict(Error):
    pass


def write_files(kind, base, state, wanted, force):
    """Bring every managed file to its wanted content; names of user edits."""
    src = source_dir(kind)
    todo, edits, conflicts = {}, [], []
    recorded = dict(state['files'])
    for name in sorted(set(wanted) | set(recorded)):
        target = wanted.get(name) or read(Path(base['tree']) / name)
        target_sum = sha256_bytes(target[0])
        known = recorded.get(name) or [
            sha256_bytes((Path(base['tree']) / name).read_bytes())]
        current = (src / name).read_bytes() if (src / name).is_file() else None
        current_sum = None if current is None else sha256_bytes(current)
        if current_sum == target_sum:
            recorded[name] = [target_sum]
        elif current is None or current_sum in known or force:
            todo[name] = target
            recorded[name] = known + [target_sum] + (
                [current_sum] if force and current_sum else [])
        elif target_sum in known:
            edits.append(name)
        else:
            conflicts.append(name)
    if conflicts:
        raise Conflict(
            'a patch changes these files, and they were edited in '
            f'build/{kind}/src too:\n'
            + ''.join(f'  {name}\n' for name in conflicts)
            + 'Save the edits if you want them, then discard them with '
            f'scripts/prepare-tree --discard-edits {kind}')
    state['files'] = recorded
    if todo:
        save_json(state_file(kind), state)
    for name, (content, mode) in todo.items():
        write_atomic(src / name, content, mode)
    for name in list(recorded):
        if name in todo:
            recorded[name] = [sha256_bytes(todo[name][0])]
        if name not in wanted and name not in edits:
            del recorded[name]
    return len(todo), edits


def write_links(kind, base, state, overlay):
    src = source_dir(kind)
    changed = 0
    for name in overlay:
        link = src / name
        if os.path.lexists(Path(base['tree']) / name):
            raise Error(f'{name} exists in QEMU {base["version"]} already: '
                        'change it with a patch, not in the overlay')
        if link.is_file() and not link.is_symlink() \
                and link.read_bytes() != (TOP / name).read_bytes():
            raise Error(f'{link.relative_to(TOP)} should be a link to {name} '
                        'but is a file with other content (an editor may have '
                        f'done that): move it to {name}, or remove it')
    state['links'] = sorted(set(state['links']) | set(overlay))
    if set(state['links']) != set(overlay) or any(
            not (src / name).is_symlink() for name in overlay):
        save_json(state_file(kind), state)
    for name in overlay:
        link = src / name
        target = os.path.relpath(TOP / name, link.parent)
        if link.is_dir() and not link.is_symlink():
            raise Error(f'{link.relative_to(TOP)} is a directory')
        changed += symlink_atomic(target, link)
    for name in set(state['links']) - set(overlay):
        link = src / name
        if link.is_symlink():
            link.unlink()
            changed += 1
        for parent in link.relative_to(src).parents:
            if str(parent) == '.' or (Path(base['tree']) / parent).exists():
                break
            with contextlib.suppress(OSError):
                (src / parent).rmdir()
    state['links'] = sorted(overlay)
    return changed


def prepare(kind, force=False, prefix=None):
    """Make build/KIND/src what it has to be; a summary of what was done.

    prefix is how many patches of the series to apply, None meaning all.
    """
    with locked(kind):
        base = basetree.current()
        patches = [] if kind == 'stock' else series.load()[:prefix]
        wanted = wanted_content(kind, base, patches)
        state = load_json(state_file(kind))
        if not state or state.get('identity') != base['identity'] \
                or not source_dir(kind).is_dir():
            state = create(kind, base)
        elif base['kind'] == 'directory':
            follow_directory(kind, base, state)
        before = dict(state)
        written, edits = write_files(kind, base, state, wanted, force)
        linked = write_links(kind, base, state,
                             series.overlay_files(patches))
        if state != before or written or linked:
            save_json(state_file(kind), state)
        for name in edits:
            say(f'build/{kind}/src/{name} was edited and is left as it is; '
                'scripts/refresh-patch makes that part of a patch')
        return {'base': base, 'patches': len(patches), 'edits': edits,
                'overlay': len(series.overlay_files(patches)),
                'written': written, 'linked': linked}


def edited_files(kind, base):
    """Files of the prepared tree whose content is not what was prepared.

    Looks at the whole tree, so that an edit to a file which no patch touches
    yet is seen as well.
    """
    src = source_dir(kind)
    tree = Path(base['tree'])
    state = load_json(state_file(kind), {'files': {}})
    found = []
    for name in base_files(tree):
        path = src / name
        if path.is_symlink() or not path.is_file():
            continue
        known = state['files'].get(name)
        if known:
            if sha256_bytes(path.read_bytes()) not in known:
                found.append(name)
        elif fingerprint(path) != fingerprint(tree / name) \
                and path.read_bytes() != (tree / name).read_bytes():
            found.append(name)
    return found
