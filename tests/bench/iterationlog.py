# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a migration's iterations took, by QEMU's own trace events

Both QEMUs have them, so both are measured with the same measure.  Only the
first handler of an iteration is looked at, which is RAM's: the others have
little to send.
"""

from pathlib import Path
import re

ARGS = ['-msg', 'timestamp=on', '-D', 'trace.log',
        '-trace', 'savevm_state_iterate', '-trace', 'savevm_section_end']

# 1234@1795299170.306671:savevm_section_end ram, section_id 1 -> 0
LINE = re.compile(r'\d+@(\d+)\.(\d+):(\w+) ?(\w*)')


def iterations_us(directory: Path) -> list[int]:
    """Microseconds that each took, of a QEMU with ARGS that ran there."""
    found, begin = [], None
    with open(directory / 'trace.log', encoding='ascii',
              errors='replace') as log:
        for line in log:
            match = LINE.match(line)
            if not match:
                continue
            at = int(match[1]) * 1_000_000 + int(match[2])
            if match[3] == 'savevm_state_iterate':
                begin = at
            elif begin is not None and match[4] == 'ram':
                found.append(at - begin)
                begin = None
    return found
