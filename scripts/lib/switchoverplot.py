# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a migration as two monitors told it (needs matplotlib)

From top to bottom: who was in which state, throughput, durations of iterations,
all over the whole migration; the attempts, one bar each; and the last of them at
both sides, with the time axis zoomed: see switchoverzoom.py.
"""

import io
from pathlib import Path

import matplotlib
matplotlib.use('Agg')                   # no display is needed
# pylint: disable=wrong-import-position
from matplotlib import pyplot                                   # noqa: E402
from matplotlib.patches import Patch                            # noqa: E402
from matplotlib.ticker import FuncFormatter                     # noqa: E402

from histogram import duration                                  # noqa: E402
from switchoverrecord import Recorder                           # noqa: E402
from switchoverside import Side                                 # noqa: E402
from switchovertext import outcome, verdict                     # noqa: E402
from switchoverzoom import (COLOURS, FAULT, Scene, draw_zoom,   # noqa: E402
                            scene_of, style)

MIB = 1 << 20
STATUS_COLOURS = {
    'setup': '#dddddd', 'active': '#bfe0f3', 'pre-switchover': '#f7dfa6',
    'device': '#f7dfa6', 'postcopy-ready': '#ecc9dc', 'completed': '#b5dfd1',
    'postcopy-active': '#8fd0b8', 'failed': '#f2c2a4', 'cancelled': '#f2c2a4',
    'cancelling': '#f2c2a4', 'postcopy-paused': '#f2c2a4',
}
ATTEMPTS_SHOWN = 8


# ---- over the whole migration ------------------------------------------------

def overview_end(recorder: Recorder) -> float:
    ends = [recorder.now]
    if all(side.ended or side.lost for side in recorder.sides):
        ends = [side.clock.moment(side.statuses[-1][0]).at
                for side in recorder.sides if side.statuses]
    return max(ends) - recorder.zero


def draw_statuses(axes, side: Side, row: int, zero: float, end: float):
    begins = [max(0, side.clock.moment(stamp).at - zero)
              for stamp, _ in side.statuses]
    for begin, until, (_, status) in zip(begins, [*begins[1:], end],
                                         side.statuses):
        axes.barh(row, until - begin, left=begin, height=0.72,
                  color=STATUS_COLOURS.get(status, '#dddddd'),
                  edgecolor='0.4', linewidth=0.4)
        # What does not fit is told by the zoomed part.
        if until - begin > 0.011 * len(status) * end:
            axes.text((begin + until) / 2, row, status, ha='center',
                      va='center', size=8, bbox={
                          'facecolor': 'white', 'alpha': 0.7, 'pad': 1,
                          'edgecolor': 'none'})


def draw_passes(axes, recorder: Recorder, row: int, end: float):
    told = recorder.source.named('MIGRATION_PASS')
    begins = [(recorder.source.moment(item).at - recorder.zero,
               item.data['pass']) for item in told]
    last_label = -end
    for number, (begin, name) in enumerate(begins):
        until = begins[number + 1][0] if number + 1 < len(begins) else end
        axes.barh(row, until - begin, left=begin, height=0.72,
                  color='#cfcfcf' if name % 2 else '#ececec',
                  edgecolor='0.6', linewidth=0.3)
        middle = (begin + until) / 2
        if until - begin > 0.012 * end and middle - last_label > 0.02 * end:
            axes.text(middle, row, str(name), ha='center', va='center', size=7)
            last_label = middle


def draw_disturbances(axes, recorder: Recorder, row: int, end: float):
    """Windows, attempts, and what went wrong, in one row."""
    zero, least = recorder.zero, 0.003 * end
    source = recorder.source
    if not source.patched:
        axes.text(0.5, row, 'not known: query-migrate has no "switchover"',
                  ha='center', va='center', size=8, color='0.3',
                  transform=axes.get_yaxis_transform())
    for window in source.windows:
        if window.end:
            axes.barh(row, max(window.end.at - window.begin.at, least),
                      left=window.begin.at - zero, height=0.72,
                      **style('quiesce'))
    for attempt in source.attempts.values():
        begin = attempt.stopped and source.moment(attempt.stopped) or \
            attempt.phases.begin_of('stop')
        if not begin:
            continue
        seconds = sum(us for name, us in attempt.phases.phases
                      if name not in ('quiesce', 'stop')) / 1e6
        axes.barh(row, max(seconds, least), left=begin.at - zero, height=0.72,
                  color=FAULT if attempt.timeout else COLOURS['save'][0],
                  linewidth=0)
    for stall in source.timeline.stalls:
        until = recorder.now if stall.end is None else stall.end
        axes.barh(row, until - stall.begin, left=stall.begin - zero,
                  height=0.3, **style('hold'))


def draw_silences(axes, side: Side, row: int, zero: float):
    for silence in side.silences:
        axes.barh(row, silence.end - silence.begin, left=silence.begin - zero,
                  height=0.72, facecolor='none', hatch='////',
                  edgecolor=FAULT, linewidth=0.8)


def draw_lanes(axes, recorder: Recorder, end: float):
    rows = [side.name for side in recorder.sides] + ['passes', 'switchover']
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for row, side in enumerate(recorder.sides):
        draw_statuses(axes, side, row, recorder.zero, end)
        draw_silences(axes, side, row, recorder.zero)
    draw_passes(axes, recorder, len(rows) - 2, end)
    draw_disturbances(axes, recorder, len(rows) - 1, end)
    axes.legend(handles=[
        Patch(**style('quiesce'), label='quiesce window'),
        Patch(color=COLOURS['save'][0], label='guest stopped here'),
        Patch(color=FAULT, label='guest stopped, timed out'),
        Patch(**style('hold'), label='stall of the channel'),
        Patch(facecolor='none', hatch='////', edgecolor=FAULT,
              label='monitor silent (> 0.1 s)')],
        ncols=5, loc='lower left', bbox_to_anchor=(0, 1.0), fontsize=7,
        frameon=False, borderaxespad=0.2)


def draw_throughput(axes, recorder: Recorder):
    intervals = recorder.source.timeline.intervals()
    axes.set_ylabel('MiB/s')
    if intervals:
        edges = [intervals[0].begin, *(i.end for i in intervals)]
        axes.stairs([i.bytes_s / MIB for i in intervals],
                    [edge - recorder.zero for edge in edges], fill=True,
                    color='#56b4e9', alpha=0.7)
        samples = recorder.source.timeline.samples
        twin = axes.twinx()
        twin.plot([s.at - recorder.zero for s in samples],
                  [s.remaining / MIB for s in samples], color='#000000',
                  linewidth=1)
        twin.set_ylabel('remaining, MiB')
        twin.set_ylim(bottom=0)
    axes.set_ylim(bottom=0)


def draw_iterations(axes, recorder: Recorder, end: float):
    intervals = recorder.source.timeline.intervals()
    means = [(i.begin, i.end, i.mean_us) for i in intervals if i.mean_us]
    axes.set_ylabel('iterations, mean')
    if means:
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda us, _: duration(us)))
        axes.plot([(begin + until) / 2 - recorder.zero
                   for begin, until, _ in means],
                  [us for _, _, us in means], color='#0072b2', marker='.',
                  linewidth=0.8)
    else:
        axes.set_yticks([])
        axes.text(end / 2, 0.5, 'not known: QEMU does not count iterations'
                  if 'iterations' not in recorder.source.members else
                  'none ended between two answers', ha='center', va='center',
                  size=8, transform=axes.get_xaxis_transform())
    axes.set_xlabel('seconds from the beginning of the migration')


# ---- attempts ----------------------------------------------------------------

def draw_attempts(axes, recorder: Recorder):
    """A bar each, from where vCPUs were paused; the scale is that of all."""
    source = recorder.source
    numbers = sorted(source.attempts)[-ATTEMPTS_SHOWN:]
    for row, number in enumerate(numbers):
        attempt = source.attempts[number]
        names = [name for name, _ in attempt.phases.phases]
        at = 0.0
        if 'stop' in names:
            at = -sum(us for _, us in
                      attempt.phases.phases[:names.index('stop')]) / 1000
        for name, us in attempt.phases.phases:
            axes.barh(row, us / 1000, left=at, height=0.7, **style(name))
            at += us / 1000
        axes.annotate(outcome(source, attempt), (max(at, 0), row),
                      xytext=(4, 0), textcoords='offset points', va='center',
                      size=8, color=FAULT if attempt.timeout else '0.2')
    axes.set_yticks(range(len(numbers)), [f'attempt {n}' for n in numbers])
    axes.set_ylim(len(numbers) - 0.4, -0.6)
    axes.set_xlabel('ms from the beginning of stop: until then the guest '
                    'runs, from then on it stands still')
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.15 * (high - low))
    axes.axvline(0, color='0.4', linewidth=0.6)


# ---- the whole ---------------------------------------------------------------

def heights(recorder: Recorder, scene: Scene | None) -> dict[str, float]:
    """The parts of the picture, in inches."""
    # What one has tried once is shown by the zoomed part already.
    count = min(len(recorder.source.attempts), ATTEMPTS_SHOWN)
    found = {'lanes': 2.0, 'throughput': 1.1, 'iterations': 1.1}
    if count > 1:
        found['attempts'] = 0.4 + 0.28 * count
    if scene:
        low_high = scene.limits()
        entries = max(len(scene.phases), len(scene.events(*low_high)))
        found['zoom'] = 2.3
        if scene.details():
            found['details'] = 2.1
        found['words'] = 0.25 + 0.165 * entries
    return found


def paint(recorder: Recorder):
    """The figure."""
    # Text stays text in an SVG: it can be searched and is small.
    pyplot.rcParams['svg.fonttype'] = 'none'
    pyplot.rcParams['hatch.linewidth'] = 0.6
    scene = scene_of(recorder)
    parts = heights(recorder, scene)
    figure = pyplot.figure(figsize=(12, sum(parts.values()) +
                                    0.55 * len(parts)), layout='constrained')
    grid = figure.add_gridspec(len(parts), 2,
                               height_ratios=list(parts.values()))
    rows = {name: number for number, name in enumerate(parts)}

    def axes_for(name: str, **options):
        return figure.add_subplot(grid[rows[name], :], **options)

    lanes = axes_for('lanes')
    throughput = axes_for('throughput', sharex=lanes)
    iterations = axes_for('iterations', sharex=lanes)
    figure.suptitle(verdict(recorder), size=10)
    end = max(overview_end(recorder), 1e-3)
    draw_lanes(lanes, recorder, end)
    draw_throughput(throughput, recorder)
    draw_iterations(iterations, recorder, end)
    lanes.set_xlim(0, end * 1.005)
    for axes in lanes, throughput:
        axes.tick_params(labelbottom=False)
    if 'attempts' in parts:
        draw_attempts(axes_for('attempts'), recorder)
    if scene:
        details = [figure.add_subplot(grid[rows['details'], column])
                   for column in range(len(scene.details()))] \
            if 'details' in parts else []
        draw_zoom(axes_for('zoom'), details, axes_for('words'), scene)
    return figure


def draw(recorder: Recorder, path: Path):
    """Draw it into a file; its suffix says how."""
    figure = paint(recorder)
    figure.savefig(path)
    pyplot.close(figure)


def svg(recorder: Recorder) -> str:
    """For a page: no header, and no address of anybody in it."""
    figure = paint(recorder)
    out = io.StringIO()
    figure.savefig(out, format='svg', metadata={
        'Creator': None, 'Date': None, 'Format': None, 'Type': None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index('<svg'):]
