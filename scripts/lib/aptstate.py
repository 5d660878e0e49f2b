# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages and sources from other Debian releases, with apt's own checks.

The archive is the one that this machine uses already; it is asked which.  Its
signed indexes are read into a state directory of our own below
build/download/apt, so nothing in /etc/apt or /var/lib/apt changes, and no
privilege is needed.
"""

import argparse
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from common import (DOWNLOAD, Error, locked, run, say, script_main,
                    sha256_file, write_atomic)

KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
INDEX_LIFETIME_S = 12 * 3600


def os_release():
    values = {}
    try:
        with open('/etc/os-release', encoding='utf-8') as stream:
            for line in stream:
                name, _, value = line.strip().partition('=')
                values[name] = value.strip('"')
    except FileNotFoundError:
        pass
    return values


def available():
    return shutil.which('apt-get') is not None and os.path.exists(KEYRING)


def archive():
    """The site this machine takes its own release's main component from."""
    codename = os_release().get('VERSION_CODENAME', '')
    result = run(['apt-get', 'indextargets', '--format',
                  '$(REPO_URI)|$(CODENAME)|$(SUITE)|$(COMPONENT)',
                  'Created-By: Packages'],
                 stdout=subprocess.PIPE, text=True)
    found = []
    for line in result.stdout.splitlines():
        uri, name, suite, component = (line.split('|') + [''] * 3)[:4]
        if component == 'main' and codename in (name, suite):
            found.append(uri)
    if not found:
        raise Error('apt has no source for this release\'s main component, '
                    'so there is no archive to ask (see "apt-get '
                    'indextargets"; perhaps run "apt-get update" first)')
    return found[0]


class PrivateApt:
    """apt with a list of sources and a state of its own.

    sources is a list of (kind, suite) pairs, kind being deb or deb-src.
    """

    def __init__(self, name, sources, download=DOWNLOAD):
        self.name = name
        self.sources = sources
        self.download = download
        self.dir = download / 'apt' / name
        self.options = [
            '-o', f'Dir::Etc::sourcelist={self.dir}/sources.list',
            '-o', 'Dir::Etc::sourceparts=/dev/null',
            '-o', 'Dir::Etc::preferences=/dev/null',
            '-o', 'Dir::Etc::preferencesparts=/dev/null',
            '-o', f'Dir::State::Lists={self.dir}/lists',
            '-o', f'Dir::Cache={self.dir}/cache',
            '-o', 'Acquire::Languages=none',
            '-o', 'APT::Get::List-Cleanup=false',
            '-o', 'Acquire::Retries=2',
            '-o', 'Acquire::http::Timeout=30',
        ]
        if os.geteuid() == 0:
            self.options += ['-o', 'APT::Sandbox::User=root']

    def apt(self, tool, *args, **kwargs):
        env = dict(os.environ, LC_ALL='C', DEBIAN_FRONTEND='noninteractive')
        return run([tool, *self.options, *args], env=env, **kwargs)

    def update(self):
        """Read the indexes, unless they were read not long ago."""
        if not available():
            raise Error('this is not Debian with apt and its archive keyring')
        site = archive()
        lines = ''.join(f'{kind} [signed-by={KEYRING}] {site} {suite} main\n'
                        for kind, suite in self.sources)
        stamp = self.dir / 'stamp'
        sources_list = self.dir / 'sources.list'
        if (stamp.exists() and sources_list.exists()
                and sources_list.read_text() == lines
                and time.time() - stamp.stat().st_mtime < INDEX_LIFETIME_S):
            return
        say(f'reading the signed package index of {self.name} ...')
        for sub in ('lists/partial', 'cache/archives/partial'):
            (self.dir / sub).mkdir(parents=True, exist_ok=True)
        write_atomic(sources_list, lines)
        self.apt('apt-get', 'update', '-qq', '-o',
                 'APT::Update::Error-Mode=any', stdout=subprocess.DEVNULL)
        stamp.touch()

    def source_versions(self, package):
        """The versions of a source package that the index offers."""
        result = self.apt('apt-cache', 'madison', package,
                          stdout=subprocess.PIPE, text=True)
        found = []
        for line in result.stdout.splitlines():
            fields = [field.strip() for field in line.split('|')]
            if len(fields) == 3 and fields[2].endswith('Sources'):
                found.append(fields[1])
        return found

    def uris(self, *args):
        """What apt would download: (uri, file name, checksum) triples."""
        result = self.apt('apt-get', *args, '--print-uris',
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
        return re.findall(r"^'([^']+)' (\S+) \d+ (SHA\d+:[0-9a-f]+)",
                          result.stdout, re.MULTILINE)

    def fetch(self, uri, target, checksum):
        """Download uri; apt compares it with the signed index's checksum."""
        target = Path(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f'.tmp-{os.getpid()}-{target.name}')
        try:
            self.apt('/usr/lib/apt/apt-helper', 'download-file', uri, part,
                     checksum, stdout=subprocess.DEVNULL)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def fetch_source_tarball(self, package, version):
        """The original tarball of a source package, verified."""
        uris = self.uris('source', '--download-only', '--only-source',
                         f'{package}={version}')
        for uri, name, checksum in uris:
            if '.orig.tar.' in name and not name.endswith('.asc'):
                target = self.download / name
                if not matches(target, checksum):
                    say(f'downloading {name} ...')
                    self.fetch(uri, target, checksum)
                return target
        raise Error(f'the index names no tarball for {package} {version}')

    def fetch_packages(self, *args):
        """Download the .debs that apt-get ARGS asks for; their paths."""
        paths = []
        for uri, name, checksum in self.uris(*args):
            target = self.download / name
            if not matches(target, checksum):
                say(f'downloading {name} ...')
                self.fetch(uri, target, checksum)
            paths.append(target)
        return paths


def matches(path, checksum):
    kind, _, value = checksum.partition(':')
    return (kind == 'SHA256' and path.is_file()
            and sha256_file(path) == value)


def qemu_sources():
    """Where source packages of the 10.0 series are."""
    return PrivateApt('debian13', [('deb-src', 'trixie'),
                                   ('deb-src', 'trixie-updates')])


def backports(download=DOWNLOAD):
    """Debian 12's backports: newer build tools, and a QEMU 10.0.2."""
    return PrivateApt('debian12-backports', [
        ('deb', 'bookworm-backports'),
        ('deb-src', 'bookworm-backports')], download)


def serialized():
    """apt's own lock makes a second process fail; wait for it instead."""
    return locked('download')


def main():
    parser = argparse.ArgumentParser(
        description='Download packages of Debian 12\'s backports, checked '
                    'against the signed index, and print their paths.')
    parser.add_argument('--dir', type=Path, default=DOWNLOAD,
                        help='where to (default: build/download)')
    parser.add_argument('package', nargs='+')
    args = parser.parse_args()
    apt = backports(args.dir.absolute())
    apt.update()
    for path in apt.fetch_packages('download', *args.package):
        print(path)


if __name__ == '__main__':
    script_main(main)
