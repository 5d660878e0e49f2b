# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of the last second of a migration, both sides on one clock

Colours are those of Okabe and Ito, which can be told apart by nearly everybody, and
each phase has its hatching besides.
"""

from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from histogram import duration
from hostclock import Moment
from phaselist import Phase
from switchoverrecord import DESTINATION, SOURCE, Recorder
from switchovertext import (both_phases, milliseconds, stop_and_resume,
                            switchover_zero)

COLOURS = {
    'quiesce': ('#56b4e9', ''), 'stop': ('#000000', ''),
    'drain': ('#d55e00', '//'), 'device-stop': ('#e69f00', '\\\\'),
    'save': ('#0072b2', ''), 'hold': ('#cc79a7', 'xx'),
    'handover': ('#666666', ''),
    'load': ('#009e73', ''), 'activate': ('#f0e442', ''),
    'device-start': ('#e69f00', '..'), 'resume': ('#666666', ''),
}
FAULT = '#d55e00'
EVENTS_MAX = 30
# A phase that takes more of the picture than this hides the others.
LONG = 0.85
EVENT_WORDS = {
    'MIGRATION_SOURCE_STOPPED': 'SOURCE_STOPPED', 'STOP': 'STOP',
    'MIGRATION_DRAIN_TIMEOUT': 'DRAIN_TIMEOUT', 'RESUME': 'RESUME',
    'MIGRATION_POSTCOPY_READY': 'POSTCOPY_READY',
    'MIGRATION_STALLED': 'STALLED',
}


def style(name: str) -> dict:
    colour, hatch = COLOURS.get(name, ('#999999', ''))
    return {'facecolor': colour, 'hatch': hatch, 'edgecolor': 'white',
            'linewidth': 0}


# ---- what there is to see ----------------------------------------------------

@dataclass
class Scene:
    """The last second: phases that have a place, and the moment 0."""
    recorder: Recorder
    zero: float
    phases: list[tuple[str, Phase]]

    def of(self, name: str) -> Moment | None:
        """When the last attempt's phase of this name began."""
        return next((phase.begin for _, phase in self.phases
                     if phase.name == name), None)

    def _times(self) -> list[float]:
        """Where phases begin and end, but for a window before them."""
        return [time - self.zero for _, phase in self.phases
                if phase.name != 'quiesce' for time in ends(phase)]

    def limits(self) -> tuple[float, float]:
        """In seconds from zero; a long quiesce window is cut off."""
        times = self._times()
        if not times:
            times = [0, *(at for at, *_ in self._all_events() if at > 0)]
        low, high = min(times), max(times)
        room = max((high - low) * 0.06, 1e-4)
        quiesce = self.of('quiesce')
        if quiesce:
            low = max(quiesce.at - self.zero, low - (high - low) * 0.5)
        return low - room, high + room

    def long_phase(self) -> tuple[float, float] | None:
        """Begin and end of one beside which nothing else can be seen."""
        times = self._times()
        spans = [(begin - self.zero, end - self.zero) for begin, end in
                 (ends(phase) for side, phase in self.phases
                  if side == SOURCE and phase.name != 'quiesce')]
        begin, end = max(spans, key=lambda span: span[1] - span[0],
                         default=(0, 0))
        return (begin, end) \
            if times and end - begin > LONG * (max(times) - min(times)) \
            else None

    def details(self) -> list[tuple[float, float]]:
        """Limits for a closer look at both ends of such a phase."""
        span = self.long_phase()
        if not span:
            return []
        low, high = self.limits()
        times = self._times() + [at for at, *_ in self.events(low, high)
                                 if at > -0.001]
        middle = sum(span) / 2
        found = []
        for part in ([t for t in times if t <= middle],
                     [t for t in times if t > middle]):
            if part and max(part) > min(part):
                room = max((max(part) - min(part)) * 0.12, 5e-5)
                found.append((min(part) - room, max(part) + room))
        return found

    def _all_events(self):
        for side in self.recorder.sides:
            for told in side.events:
                word = EVENT_WORDS.get(told.name)
                if told.name == 'MIGRATION':
                    word = f'status {told.data["status"]}'
                if word:
                    yield (side.moment(told).at - self.zero,
                           f'{word}, {side.name}',
                           told.name == 'MIGRATION_DRAIN_TIMEOUT')

    def events(self, low: float, high: float) -> list[tuple[float, str, bool]]:
        """(time, label, is a fault) of what happened within the limits."""
        return sorted(event for event in self._all_events()
                      if low <= event[0] <= high)[:EVENTS_MAX]


def ends(phase: Phase) -> tuple[float, float]:
    end = phase.end or phase.begin
    return phase.begin.at, end.at


def scene_of(recorder: Recorder) -> Scene | None:
    """None if nothing is known of a switchover."""
    zero = switchover_zero(recorder)
    if zero:
        return Scene(recorder, zero.at, [
            (side, phase) for side, phase in both_phases(recorder)
            if phase.begin])
    stops = recorder.source.named('STOP')
    return Scene(recorder, recorder.source.moment(stops[-1]).at, []) \
        if stops else None


# ---- drawing it --------------------------------------------------------------

def draw_phases(axes, scene: Scene):
    for side, phase in scene.phases:
        begin, end = ends(phase)
        row = 0 if side == SOURCE else 1
        if phase.us is None:
            axes.plot([(begin - scene.zero) * 1000], [row], marker='>',
                      color=COLOURS[phase.name][0], markersize=7)
        else:
            axes.barh(row, (end - begin) * 1000,
                      left=(begin - scene.zero) * 1000, height=0.5,
                      **style(phase.name))
    for row, side in enumerate(scene.recorder.sides):
        if not any(name == side.name for name, _ in scene.phases):
            axes.text(0.5, row, 'phases not known', ha='center', va='center',
                      size=8, color='0.3',
                      transform=axes.get_yaxis_transform())


def draw_uncertainty(axes, scene: Scene):
    """One for each side: its phases move together."""
    for row, name in enumerate((SOURCE, DESTINATION)):
        mine = [phase for side, phase in scene.phases if side == name and
                phase.name != 'quiesce']
        if mine:
            begin = mine[0].begin
            axes.errorbar([(begin.at - scene.zero) * 1000], [row + 0.34],
                          xerr=[begin.off * 1000], color='0.2', capsize=3,
                          linewidth=1)


def draw_events(axes, scene: Scene, limits: tuple[float, float], numbers: dict,
                room: float):
    """A number for each; they slide apart where events are close.

    @room: that a number needs, as a share of the axis
    """
    low, high = limits
    found = scene.events(low, high)
    step = (high - low) * room
    places = []
    for at, *_ in found:
        places.append(max(at, places[-1] + step if places else low))
    for index in reversed(range(len(places))):
        most = high - (len(places) - 1 - index) * step
        places[index] = min(places[index], most)
    for event, place in zip(found, places):
        at, _, fault = event
        colour = FAULT if fault else '0.25'
        axes.axvline(at * 1000, color=colour, linewidth=0.7, linestyle=':')
        axes.annotate(str(numbers[event]), xy=(at * 1000, 1),
                      xytext=(place * 1000, 1.09),
                      xycoords=('data', 'axes fraction'),
                      textcoords=('data', 'axes fraction'),
                      ha='center', va='bottom', size=8, color=colour,
                      annotation_clip=False,
                      arrowprops={'arrowstyle': '-', 'color': colour,
                                  'linewidth': 0.6, 'shrinkA': 0,
                                  'shrinkB': 0})


def draw_blackout(axes, scene: Scene, named: bool):
    """@named: with how long it was"""
    recorder = scene.recorder
    begin, end = scene.of('stop'), scene.of('resume')
    bar, words = {'color': '#000000'}, 'not known'
    still = recorder.blackout()
    if still and begin and end:
        words = f'{milliseconds(still.at)} ms +- {milliseconds(still.off)}'
    elif events := stop_and_resume(recorder):
        begin, end = events
        bar = {'facecolor': 'none', 'edgecolor': '#000000', 'hatch': '///'}
        words = f'longer than {milliseconds(end.at - begin.at)} ms'
    if words != 'not known':
        axes.barh(2, (end.at - begin.at) * 1000,
                  left=(begin.at - scene.zero) * 1000, height=0.4, **bar)
    if named:
        axes.text(0.5, 2, words, transform=axes.get_yaxis_transform(),
                  ha='center', va='center', size=8, bbox={
                      'facecolor': 'white', 'pad': 1.5, 'edgecolor': 'none'})


def draw_part(axes, scene: Scene, limits: tuple[float, float], numbers: dict,
              named: bool = False):
    """The part within @limits; @named: it is the large one."""
    draw_phases(axes, scene)
    draw_uncertainty(axes, scene)
    draw_blackout(axes, scene, named)
    draw_events(axes, scene, limits, numbers, 0.022 if named else 0.045)
    axes.set_yticks(range(3), [SOURCE, DESTINATION, 'guest stopped'])
    axes.set_ylim(2.5, -0.5)
    axes.set_xlim(limits[0] * 1000, limits[1] * 1000)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.ticklabel_format(axis='x', useOffset=False)


def legends(axes, scene: Scene, numbers: dict):
    handles = []
    for side, phase in scene.phases:
        took = '' if phase.us is None else f' {duration(phase.us)}'
        handles.append(Patch(**style(phase.name),
                             label=f'{side}: {phase.name}{took}'))
    place = {'loc': 'upper left', 'fontsize': 7.5, 'frameon': False,
             'borderaxespad': 0}
    phases = axes.legend(handles=handles, bbox_to_anchor=(0, 1),
                         handlelength=1.4, **place)
    axes.add_artist(phases)
    events = [Line2D([], [], linestyle='', label=f'{number}  {milliseconds(at)} '
                     f'ms  {label}')
              for (at, label, _), number in numbers.items()]
    axes.legend(handles=events, bbox_to_anchor=(0.5, 1), handlelength=0,
                handletextpad=0, **place)
    axes.set_axis_off()


def describe_axis(scene: Scene) -> str:
    last = scene.recorder.source.last_attempt
    if not last:
        return 'ms from STOP, which comes after devices and disks were stopped'
    return (f'attempt {last.number}, ms from the moment when vCPUs were paused; '
            'brackets: where a side\'s phases as a whole may be')


def draw_zoom(main, details: list, words, scene: Scene):
    """@main: all of it; @details: closer looks; @words: axes for legends"""
    limits = scene.limits()
    numbers = {event: number for number, event
               in enumerate(scene.events(*limits), 1)}
    draw_part(main, scene, limits, numbers, named=True)
    main.set_xlabel(describe_axis(scene))
    for axes, part in zip(details, scene.details()):
        draw_part(axes, scene, part, numbers)
        axes.set_xlabel('the same, zoomed in: ms')
    legends(words, scene, numbers)
