# SPDX-License-Identifier: GPL-2.0-or-later
"""Durations in words, and a histogram of them as text"""

from collections.abc import Mapping

UNITS = [(1_000_000, 's'), (1000, 'ms'), (1, 'us')]


def duration(us: float) -> str:
    """@us microseconds in a unit that suits them, with three digits."""
    for size, unit in UNITS:
        # What would be rounded up to 1000 belongs to the next unit.
        if us >= size * 0.9995 or size == 1:
            number = us / size
            digits = 0 if number >= 99.95 or size == 1 else \
                1 if number >= 9.995 else 2
            return f'{number:.{digits}f} {unit}'
    raise AssertionError


def powers(buckets: Mapping[int, int]) -> list[int]:
    """The least durations of all buckets from the first to the last.

    0 is that of what took less than 2 us.
    """
    bounds = [min(buckets)]
    while bounds[-1] < max(buckets):
        bounds.append(max(2, bounds[-1] * 2))
    return bounds


def logarithmic(buckets: Mapping[int, int], width: int = 79) -> list[str]:
    """Lines of a histogram, one for each power of two.

    @buckets: counts by the least of their durations in us, a power of two or 0.
    Those between the first and the last that are missing are 0.
    @width: of a line at most
    """
    if not buckets:
        return []
    bounds = powers(buckets)
    counts = [buckets.get(bound, 0) for bound in bounds]
    labels = [duration(bound) for bound in bounds]
    left = max(len('value'), *map(len, labels))
    right = max(len('count'), *(len(str(count)) for count in counts))
    room = max(10, width - left - right - 4)
    most = max(counts) or 1
    lines = [f'{"value":>{left}} |{"-" * room} {"count":>{right}}']
    for label, count in zip(labels, counts):
        # One of thousands shall be seen, too.
        bar = max(1 if count else 0, round(count * room / most))
        lines.append(f'{label:>{left}} |{"@" * bar:{room}} {count:>{right}}')
    return lines
