# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of what has a time, .at, in order of time"""

from bisect import bisect_left
from operator import attrgetter


def since(stamped: list, start: float) -> list:
    """The items with .at >= @start."""
    return stamped[bisect_left(stamped, start, key=attrgetter('at')):]
