# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing reStructuredText: tables, and the part of a page that is generated"""

from collections.abc import Sequence
from pathlib import Path
import re
import textwrap

from common import Error, write_atomic

BEGIN = '.. generated from here on; see above for the command'
END = '.. end of what is generated'
WIDTH = 90


def escape(text: str) -> str:
    """Plain text, in a table's cell or a paragraph."""
    text = re.sub(r'([\\*`|_])', r'\\\1', text)
    # These by themselves would begin a list.
    return '\\' + text if re.match(r'[-+•](\s|$)', text) else text


def literal(text: str) -> str:
    return f'``{text}``'


def paragraph(text: str, first: str = '') -> list[str]:
    """Filled lines; @first: what it begins with, such as a list's mark"""
    return textwrap.wrap(text, WIDTH, initial_indent=first,
                         subsequent_indent=' ' * len(first),
                         break_long_words=False, break_on_hyphens=False)


def heading(text: str, line: str = '-') -> list[str]:
    return ['', text, line * len(text), '']


def simple_table(header: Sequence[str],
                 rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a "simple table"; cells are markup, and none is empty."""
    rows = [[cell or '..' for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = '  '.join('=' * width for width in widths)
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths))
             .rstrip() for row in rows]
    return [rule, lines[0], rule, *lines[1:], rule]


def update_page(path: Path, lines: Sequence[str]):
    """Replace what is between BEGIN and END in a page."""
    text = path.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN + '\n')
    _, end, after = rest.partition(END + '\n')
    if not begin or not end:
        raise Error(f'{path} lacks the line "{BEGIN}" or "{END}"')
    body = '\n'.join(lines).strip('\n')
    write_atomic(path, f'{before}{begin}\n{body}\n\n{end}{after}')
