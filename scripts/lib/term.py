# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress on a terminal, or in a log

Lines stay; below the last one, on a terminal, there is a status that is
rewritten in place.  Elsewhere the status becomes an ordinary line, once a
second.
"""

from collections.abc import Sequence
import os
import shutil
import sys
import time

PLAIN_INTERVAL = 1.0


class Terminal:
    """Writes lines and a status to a stream (stdout)."""

    def __init__(self, out=None):
        self.out = out or sys.stdout
        self.live = self.out.isatty() and os.environ.get('TERM') != 'dumb'
        self.colour = self.live and 'NO_COLOR' not in os.environ
        encoding = (getattr(self.out, 'encoding', None) or 'ascii').lower()
        self.unicode = encoding.replace('-', '') == 'utf8'
        self._shown = False
        self._next_plain = 0.0

    @property
    def columns(self) -> int:
        """What fits into a line at the moment; 80 if nobody knows."""
        return shutil.get_terminal_size().columns

    def _write(self, text: str):
        self.out.write(text)
        self.out.flush()

    def _clear(self):
        if self._shown:
            self._write('\r\x1b[K')
            self._shown = False

    def say(self, text: str = ''):
        """A line that stays."""
        self._clear()
        self._write(text + '\n')

    def status(self, text: str, width: int | None = None):
        """What goes on at the moment.

        @width: columns that @text takes, if it is not its length
        """
        if self.live:
            if (width or len(text)) >= self.columns:
                text = text[:self.columns - 1]
            self._write('\r\x1b[K' + text)
            self._shown = True
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_INTERVAL
            self._write(text + '\n')

    def finish(self):
        """Leave the terminal as an ordinary one."""
        self._clear()

    def strong(self, text: str) -> str:
        return f'\x1b[1m{text}\x1b[0m' if self.colour else text

    def warning(self, text: str) -> str:
        return f'\x1b[1;31m{text}\x1b[0m' if self.colour else text

    def good(self, text: str) -> str:
        return f'\x1b[32m{text}\x1b[0m' if self.colour else text

    def spark(self, values: Sequence[float], full: float) -> str:
        """One character per value: how much of @full it is."""
        levels = '_▁▂▃▄▅▆▇█' if self.unicode else '_.:-=+*#@'
        top = len(levels) - 1

        def level(value):
            # Nothing looks like nothing, and anything like something.
            return min(top, max(1 if value else 0, round(value / full * top)))
        return ''.join(levels[level(value)] for value in values)


def nobody_reads() -> int:
    """After BrokenPipeError: the exit status.

    Neither shall the interpreter try to write on exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows])
              for i in range(len(header))]
    lines = []
    for row in [header, None, *rows]:
        if row is None:
            lines.append('  '.join('-' * w for w in widths))
            continue
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        lines.append('  '.join(cells).rstrip())
    return lines
