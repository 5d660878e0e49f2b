# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths and small tools that every script of the build shares."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / 'build'
DOWNLOAD = BUILD / 'download'
PRISTINE = BUILD / 'pristine'
PATCHES = TOP / 'patches'


class Error(Exception):
    """Something that the user has to know; it carries no traceback."""


def say(*words):
    """Progress goes to stderr: a script's stdout is its result."""
    print(*words, file=sys.stderr, flush=True)


def script_main(main):
    """Run main() and turn what can go wrong into a message and a status."""
    name = os.path.basename(sys.argv[0])
    try:
        sys.exit(main())
    except Error as err:
        say(f'{name}: {err}')
        sys.exit(1)
    except KeyboardInterrupt:
        say(f'{name}: interrupted')
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def run(argv, **kwargs):
    """subprocess.run() whose failure is an Error that shows the command."""
    argv = [str(arg) for arg in argv]
    try:
        return subprocess.run(argv, check=True, **kwargs)
    except FileNotFoundError:
        raise Error(f'{argv[0]} is not installed '
                    '(scripts/install-deps installs all that is needed)')
    except subprocess.CalledProcessError as err:
        tail = ''
        for stream in (err.stdout, err.stderr):
            if stream:
                if isinstance(stream, bytes):
                    stream = stream.decode(errors='replace')
                tail += '\n' + stream.rstrip()
        raise Error(f'"{" ".join(argv)}" ended with status '
                    f'{err.returncode}{tail}')


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def sha256_bytes(data):
    return hashlib.sha256(data).hexdigest()


def write_atomic(path, data, mode=None):
    """Replace path with data; a reader sees the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    fd, tmp = tempfile.mkstemp(prefix='.tmp-', dir=path.parent)
    try:
        with os.fdopen(fd, 'wb') as stream:
            stream.write(data)
        os.chmod(tmp, 0o644 if mode is None else mode)
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)
        raise


def symlink_atomic(target, path):
    """Make path a link to target, whatever it was; False if it was one."""
    path = Path(path)
    if path.is_symlink() and os.readlink(path) == str(target):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f'.tmp-{os.getpid()}-{path.name}')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(tmp)
    os.symlink(target, tmp)
    os.replace(tmp, path)
    return True


def load_json(path, default=None):
    try:
        with open(path, encoding='utf-8') as stream:
            return json.load(stream)
    except (FileNotFoundError, ValueError):
        return default


def save_json(path, value):
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + '\n')


def remove(path):
    """Remove a file, a link or a whole directory; absent is fine."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


@contextlib.contextmanager
def locked(name):
    """Only one process at a time; the kernel drops the lock if it dies."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f'.lock-{name}', 'w', encoding='utf-8') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another build to finish with {name} ...')
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch_dir(prefix):
    """A directory under build/ that is gone afterwards."""
    parent = BUILD / 'tmp'
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=prefix + '-', dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
