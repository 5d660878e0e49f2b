# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a command where there is no /dev/kvm.

QEMU's own tests take KVM wherever they see the file, also where a guest under
it would never get anywhere.  A file can only be taken out of sight by a /dev
of one's own, in a mount namespace: a tmpfs, into which everything of the real
one but kvm is bound.

    nokvm.py COMMAND [ARGUMENT ...]
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

from common import Error, say, script_main

# The first argument of the one that is in a mount namespace of its own already
INSIDE = '--inside'

# Nobody tests on virtual consoles, and there are many.
LEFT_OUT = re.compile(r'kvm|tty\d+|vcs[au]?\d*|\.udev|pts|ptmx')


def needed():
    """Is there a /dev/kvm that a test could take?"""
    return os.path.exists('/dev/kvm') and os.access('/dev/kvm', os.R_OK)


def wrapper():
    """The command line to put before a command; [] if none is needed.

    Raises Error if /dev/kvm is in sight and cannot be hidden.
    """
    if not needed():
        return []
    me = [sys.executable, '-B', os.path.realpath(__file__), INSIDE]
    options = ['--mount', '--propagation', 'private']
    if os.geteuid() != 0:
        options.append('--map-root-user')
    argv = ['unshare', *options, *me]
    if not shutil.which('unshare'):
        raise Error('unshare (package util-linux) is not installed')
    result = subprocess.run([*argv, 'true'], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        raise Error('/dev/kvm cannot be hidden here: '
                    + result.stdout.decode(errors='replace').strip())
    return argv


def mount(*args):
    subprocess.run(['mount', *args], check=True)


def bind(source, target):
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(mode):
        os.mkdir(target)
        mount('--rbind', source, target)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        with open(target, 'wb'):
            pass
        mount('--bind', source, target)


def hide():
    with tempfile.TemporaryDirectory(prefix='nokvm-') as new:
        mount('-t', 'tmpfs', '-o', 'mode=0755,nosuid', 'none', new)
        for name in sorted(os.listdir('/dev')):
            if not LEFT_OUT.fullmatch(name):
                bind(f'/dev/{name}', f'{new}/{name}')
        # A bound ptmx does not find its pts; both come from one instance.
        os.mkdir(f'{new}/pts')
        mount('-t', 'devpts', '-o', 'newinstance,ptmxmode=0666,mode=620',
              'devpts', f'{new}/pts')
        os.symlink('pts/ptmx', f'{new}/ptmx')
        mount('--rbind', new, '/dev')
        subprocess.run(['umount', '-l', new], check=True)


def check():
    if os.path.exists('/dev/kvm') or os.access('/dev/kvm', os.R_OK):
        raise Error('/dev/kvm is still there')
    with open('/dev/null', 'wb') as stream:
        stream.write(b'x')
    for path, mode in (('/dev/zero', os.R_OK), ('/dev/urandom', os.R_OK),
                       ('/dev/shm', os.W_OK)):
        if not os.access(path, mode):
            raise Error(f'{path} is not usable in the private /dev')
    descriptors = os.openpty()
    for fd in descriptors:
        os.close(fd)


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__.strip())
        return 2
    if sys.argv[1] != INSIDE:
        argv = [*wrapper(), *sys.argv[1:]]
        os.execvp(argv[0], argv)
    try:
        hide()
    except (OSError, subprocess.CalledProcessError) as err:
        raise Error(f'no private /dev: {err}')
    check()
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as err:
        say(f'{sys.argv[2]}: {err}')
        return 127


if __name__ == '__main__':
    script_main(main)
