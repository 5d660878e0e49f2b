# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts that start guests with disks have in common"""

from collections.abc import Callable
from pathlib import Path
import shutil
import sys

from term import Terminal, nobody_reads
from vm import BUILD, HarnessError, run


class Missing(Exception):
    """Something has to be built or installed first."""


def check_ready(*files: tuple[Path, str]):
    """Is all there?  @files: what else has to be, and what makes it"""
    for path, hint in (*files, (BUILD / 'guest' / 'initramfs.gz',
                                'run make guest')):
        if not path.exists():
            raise Missing(f'{path} is not there: {hint}')
    if not shutil.which('nbdkit'):
        raise Missing('nbdkit is not installed')


def main(name: str, check: Callable, body: Callable, args) -> int:
    """Run check(args), and body(args, term), which is asynchronous.

    Returns body's exit status, or 2 if something is missing.
    """
    term = Terminal()
    try:
        check(args)
        return run(body, args, term)
    except (Missing, HarnessError) as err:
        term.finish()
        print(f'{name}: {err}', file=sys.stderr)
        return 2
    except BrokenPipeError:
        return nobody_reads()
    finally:
        term.finish()
