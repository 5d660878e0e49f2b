# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a migration's iterations (needs matplotlib)"""

from pathlib import Path

import matplotlib
matplotlib.use('Agg')                   # no display is needed
# pylint: disable=wrong-import-position
from matplotlib import pyplot                                   # noqa: E402
from matplotlib.colors import LogNorm                           # noqa: E402
from matplotlib.ticker import FuncFormatter                     # noqa: E402

from histogram import duration, powers                          # noqa: E402
from iterations import Interval, Timeline                       # noqa: E402

MIB = 1 << 20
STALL_COLOUR = 'tab:red'


def _heat(axes, intervals: list[Interval], begin: float):
    """How many iterations of each duration, over time."""
    known = {us: n for item in intervals for us, n in item.buckets.items()}
    if not known:
        return None
    buckets = powers(known)
    # The axis is logarithmic, and has no 0.
    bounds = [max(1, us) for us in buckets] + [max(2, buckets[-1] * 2)]
    # One column for each interval; those with no iteration stay white.
    edges = [intervals[0].begin - begin, *(i.end - begin for i in intervals)]
    counts = [[item.buckets.get(us) or float('nan') for item in intervals]
              for us in buckets]
    most = max(n for item in intervals for n in item.buckets.values())
    return axes.pcolormesh(edges, bounds, counts, cmap='Blues',
                           norm=LogNorm(0.5, max(most, 1)))


def _mark(axes_list, timeline: Timeline, begin: float):
    """Stalls as areas, changes of status and phase as lines."""
    now = timeline.last.at
    for number, stall in enumerate(timeline.stalls):
        end = now if stall.end is None else stall.end
        for axes in axes_list:
            span = axes.axvspan(stall.begin - begin, end - begin, alpha=0.25,
                                color=STALL_COLOUR, linewidth=0)
            span.set_gid(f'stall-{axes_list.index(axes)}-{number}')
    before = timeline.samples[0]
    for sample in timeline.samples[1:]:
        new = [b for a, b in ((before.status, sample.status),
                              (before.phase, sample.phase)) if b and a != b]
        before = sample
        if not new:
            continue
        for axes in axes_list:
            axes.axvline(sample.at - begin, color='0.6', linewidth=0.6)
        axes_list[0].annotate(
            ', '.join(new), (sample.at - begin, 1), rotation=90, size=7,
            xycoords=('data', 'axes fraction'), xytext=(-2, -3),
            textcoords='offset points', ha='right', va='top', color='0.35')


def _durations(axes, intervals: list[Interval], begin: float, figure):
    axes.set_yscale('log', base=2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda us, _: duration(us)))
    axes.set_ylabel('duration of an iteration')
    heat = _heat(axes, intervals, begin)
    if heat is None:
        return
    most = heat.norm.vmax
    ticks = [1 << n for n in range(0, int(most).bit_length(),
                                   1 + int(most).bit_length() // 8)]
    legend = figure.colorbar(heat, ax=axes, label='iterations', pad=0.01,
                             ticks=ticks)
    legend.minorticks_off()
    legend.ax.set_yticklabels([str(tick) for tick in ticks])
    # Where no iteration ended the line has a gap.
    axes.plot([(i.begin + i.end) / 2 - begin for i in intervals],
              [i.mean_us or float('nan') for i in intervals],
              color='tab:orange', linewidth=1, marker='.', label='mean')
    axes.legend(loc='best')


def draw(timeline: Timeline, path: Path, title: str):
    """Draw it into a file; its suffix says how."""
    # Text stays text in an SVG: it can be searched and is small.
    pyplot.rcParams['svg.fonttype'] = 'none'
    begin = timeline.samples[0].at
    intervals = timeline.intervals()
    figure, (above, below) = pyplot.subplots(
        2, sharex=True, figsize=(11, 6.5), layout='constrained',
        gridspec_kw={'height_ratios': [3, 1]})
    figure.suptitle(title, size=10)
    _durations(above, intervals, begin, figure)
    below.stairs([i.bytes_s / MIB for i in intervals],
                 [0.0, *(i.end - begin for i in intervals)], fill=True,
                 color='tab:green', alpha=0.6)
    below.set_ylabel('MiB/s')
    below.set_xlabel('seconds')
    below.set_ylim(bottom=0)
    _mark([above, below], timeline, begin)
    figure.savefig(path)
    pyplot.close(figure)
