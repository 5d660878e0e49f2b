# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMU the build stands on, and where its unmodified source is.

build/base.json remembers the choice, so that a later "make" without
QEMU_SRC= or QEMU_TARBALL= goes on with it and needs no network.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import aptstate
from common import (BUILD, DOWNLOAD, Error, PRISTINE, load_json, remove, run,
                    save_json, say, sha256_file)

BASE = BUILD / 'base.json'
SERIES = (10, 0)
OLDEST = 2
DEVELOPMENT = 50        # 10.0.50 is what became 10.1
ACCEPTED = f'{SERIES[0]}.{SERIES[1]}.y with y >= {OLDEST}'

# Tarballs that were looked at once; the package index has to agree.
KNOWN_SHA256 = {
    '10.0.13': '6a0888e806c2ffc0c5f0733e974f9aea'
               '55491950d3c47c98669c8b236dde59ae',
    '10.0.2': '0901da33844a331bf8b3602b9c1fbd17'
              '8e60b737c8e3ade678255bd090c9b9f1',
}


def version_key(version):
    return tuple(int(part) for part in re.findall(r'\d+', version))


def tree_version(tree):
    """The version of an unpacked QEMU, or an Error if it is not one we take.
    """
    tree = Path(tree)
    try:
        version = (tree / 'VERSION').read_text(encoding='utf-8').strip()
    except (FileNotFoundError, NotADirectoryError):
        raise Error(f'{tree} is no QEMU source tree: it has no file VERSION')
    if not (tree / 'migration/migration.c').is_file():
        raise Error(f'{tree} is no QEMU source tree: it has no '
                    'migration/migration.c')
    match = re.fullmatch(r'(\d+)\.(\d+)\.(\d+)', version)
    if not match or version_key(version)[:2] != SERIES \
            or not OLDEST <= int(match.group(3)) < DEVELOPMENT:
        raise Error(f'{tree} is QEMU {version}; the series applies to QEMU '
                    f'{ACCEPTED} (a git checkout: one of the tags '
                    f'v10.0.{OLDEST}, v10.0.{OLDEST + 1}, ...)')
    return version


def unpack(tarball, name=None):
    """Extract a release tarball below build/pristine, completely or not.

    The firmware's own sources in roms/ are left out: nothing here builds them,
    and they are most of the files.
    """
    tarball = Path(tarball)
    PRISTINE.mkdir(parents=True, exist_ok=True)
    digest = sha256_file(tarball)
    marker = '.switchover-tarball'
    if name:
        tree = PRISTINE / name
        if (tree / marker).is_file() \
                and (tree / marker).read_text().strip() == digest:
            return tree, digest
    for old in PRISTINE.glob('.tmp-*'):
        remove(old)
    tmp = Path(tempfile.mkdtemp(prefix='.tmp-', dir=PRISTINE))
    try:
        os.chmod(tmp, 0o755)
        say(f'unpacking {tarball.name} ...')
        run(['tar', '-x', '-f', tarball, '-C', tmp, '--strip-components=1',
             '--no-same-owner', '--exclude=*/roms/*/*'])
        version = tree_version(tmp)
        (tmp / marker).write_text(digest + '\n')
        tree = PRISTINE / f'qemu-{version}'
        remove(tree)
        os.replace(tmp, tree)
    finally:
        remove(tmp)
    return tree, digest


def check_known(version, digest, tarball):
    known = KNOWN_SHA256.get(version)
    if known and known != digest:
        raise Error(f'{tarball} claims to be QEMU {version} but has SHA-256 '
                    f'{digest}; Debian\'s has {known}')


def from_directory(path):
    tree = Path(path).expanduser().resolve()
    version = tree_version(tree)
    return {'version': version, 'tree': str(tree), 'kind': 'directory',
            'origin': f'QEMU_SRC={tree}', 'identity': f'directory {tree}'}


def from_tarball(path, origin, expected=None, name=None, strict=False):
    tarball = Path(path).expanduser().absolute()
    if not tarball.is_file():
        raise Error(f'{tarball} is not there')
    if expected and sha256_file(tarball) != expected:
        raise Error(f'{tarball} has SHA-256 {sha256_file(tarball)}, '
                    f'expected {expected}')
    tree, digest = unpack(tarball, name)
    version = tree_version(tree)
    if strict:
        check_known(version, digest, tarball)
    return {'version': version, 'tree': str(tree), 'kind': 'tarball',
            'origin': origin, 'identity': f'tarball {digest}',
            'sha256': digest}


def cached(version):
    """A downloaded tarball that is still good; version None: the newest."""
    found = []
    for path in DOWNLOAD.glob('qemu_10.0.*.orig.tar.*'):
        match = re.match(r'qemu_(10\.0\.\d+)\+', path.name)
        if path.suffix == '.json':
            continue
        if match and version in (None, match.group(1)):
            found.append((version_key(match.group(1)), match.group(1), path))
    for _, number, path in sorted(found, reverse=True):
        digest = sha256_file(path)
        seen = load_json(path.with_name(path.name + '.json'), {})
        if digest in (KNOWN_SHA256.get(number), seen.get('sha256')):
            return from_tarball(path, f'build/download/{path.name}',
                                name=f'qemu-{number}', strict=True)
        say(f'{path.name} has a wrong checksum; downloading it again')
        remove(path)
    return None


def from_debian(version):
    """Debian's source package, checked against the signed index."""
    troubles = []
    for apt in (aptstate.qemu_sources(), aptstate.backports()):
        try:
            apt.update()
            offers = [offer for offer in apt.source_versions('qemu')
                      if re.match(r'(\d+:)?10\.0\.\d+\b', offer)]
            if version:
                offers = [offer for offer in offers
                          if re.match(r'(\d+:)?' + re.escape(version) + r'\b',
                                      offer)]
            if not offers:
                raise Error(f'the index of {apt.name} offers no QEMU '
                            f'{version or "10.0"}')
            offer = max(offers, key=version_key)
            tarball = apt.fetch_source_tarball('qemu', offer)
            number = re.search(r'10\.0\.\d+', offer).group(0)
            check_known(number, sha256_file(tarball), tarball)
            save_json(tarball.with_name(tarball.name + '.json'),
                      {'sha256': sha256_file(tarball)})
            return from_tarball(tarball, f'Debian source package qemu {offer}',
                                name=f'qemu-{number}')
        except Error as err:
            troubles.append(f'  {apt.name}: {err}')
    raise Error('no source of QEMU could be fetched from Debian:\n'
                + '\n'.join(troubles))


def from_url(url, expected):
    if not expected:
        raise Error('QEMU_TARBALL_URL needs QEMU_TARBALL_SHA256, so that what '
                    'arrives can be verified')
    target = DOWNLOAD / os.path.basename(url)
    if not (target.is_file() and sha256_file(target) == expected):
        DOWNLOAD.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f'.tmp-{os.getpid()}-{target.name}')
        tool = ['curl', '-fL', '-o', part, url] if shutil.which('curl') \
            else ['wget', '-O', part, url]
        try:
            run(tool)
            os.replace(part, target)
        finally:
            remove(part)
    return from_tarball(target, url, expected)


def fetch(version=None):
    """Find a base by the order of fallbacks; version None: the newest."""
    url = os.environ.get('QEMU_TARBALL_URL')
    with aptstate.serialized():
        if version is None:
            if os.environ.get('QEMU_SRC'):
                return from_directory(os.environ['QEMU_SRC'])
            if os.environ.get('QEMU_TARBALL'):
                path = os.environ['QEMU_TARBALL']
                return from_tarball(path, f'QEMU_TARBALL={path}',
                                    os.environ.get('QEMU_TARBALL_SHA256'))
        found = version and cached(version)
        if found:
            return found
        try:
            return from_debian(version)
        except Error as err:
            found = cached(version)
            if found:
                say(f'{err}\nso QEMU {found["version"]}, downloaded before, '
                    'is used')
                return found
            if url and version is None:
                return from_url(url, os.environ.get('QEMU_TARBALL_SHA256'))
            raise Error(f'{err}\nGet a release of QEMU {ACCEPTED} another way '
                        'and pass it:\n'
                        '  make QEMU_TARBALL=/path/to/qemu-10.0.y.tar.xz\n'
                        '  make QEMU_SRC=/path/to/unpacked/qemu\n'
                        '  make QEMU_TARBALL_URL=... QEMU_TARBALL_SHA256=...')


def still_good(base):
    if not base:
        return False
    wanted = os.environ.get('QEMU_SRC')
    if wanted and base.get('identity') != \
            f'directory {Path(wanted).expanduser().resolve()}':
        return False
    wanted = os.environ.get('QEMU_TARBALL')
    if wanted and not os.environ.get('QEMU_SRC') and \
            base.get('origin') != f'QEMU_TARBALL={wanted}':
        return False
    try:
        return tree_version(base['tree']) == base['version']
    except (Error, KeyError):
        return False


def current():
    """The base of this build; fetched if there is none yet."""
    base = load_json(BASE)
    if not still_good(base):
        base = fetch()
        save_json(BASE, base)
    return base


def git_files(tree):
    """The files of a git checkout that are part of it, or None."""
    if not (Path(tree) / '.git').exists():
        return None
    result = subprocess.run(
        ['git', '-c', f'safe.directory={tree}', '-C', str(tree), 'ls-files',
         '-z', '--recurse-submodules'], stdout=subprocess.PIPE, check=False)
    if result.returncode:
        return None
    return [name.decode() for name in result.stdout.split(b'\0') if name]
