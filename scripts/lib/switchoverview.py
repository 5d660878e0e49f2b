# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration as two monitors tell it, while it goes on"""

from eventwords import describe, is_fault
from iterationview import MONITOR_SILENT_S, View, seconds
from phaselist import RESTING
from switchoverrecord import DESTINATION, SOURCE, Recorder
from switchoverside import silence_of
from term import Terminal


class LiveView(View):
    """Lines that stay, for events and faults, and a status below them."""

    def __init__(self, term: Terminal, quiet: bool = False):
        super().__init__(term)
        self.quiet = quiet
        self._began = False
        self._waiting: list[dict] = []
        self._recorder: Recorder | None = None
        self._silent: dict[str, float] = {}

    # -- lines that stay

    def show(self, recorder: Recorder, item: dict):
        """Tell about what was fed to @recorder."""
        if self.quiet or not recorder.source:
            return
        if not recorder.source.begun and 'event' in item:
            # Whether it belongs to the migration is known soon.
            self._waiting.append(item)
            return
        if 'query-migrate' in item and not recorder.source.begun:
            if item['side'] == SOURCE:
                self._waiting.clear()
            return
        for earlier in self._waiting:
            self._line(earlier)
        self._waiting.clear()
        self._line(item)

    def _line(self, item: dict):
        if 'event' in item:
            name, data = item['event'], item['data']
            self._tell(item, describe(name, data), is_fault(name, data))
        elif 'lost' in item:
            self._tell(item, [item['lost']], True)
        elif 'query-migrate' in item and (silence := silence_of(item)):
            self._tell(item, ['the monitor answered after '
                              f'{silence.seconds:.2f} s'], True)

    def _tell(self, item: dict, lines: list[str], loud: bool):
        for line in lines:
            self.term.say(f'{item["at"]:8.2f} s  {item["side"]:11}  '
                          + (self.term.warning(line) if loud else line))

    # -- the status

    def status(self, recorder: Recorder, now: float, silent: dict[str, float]):
        """@silent: for how many seconds each side has owed an answer"""
        if self.quiet:
            return
        self._recorder, self._silent = recorder, silent
        source = recorder.source
        if source.begun and source.timeline.last:
            super().status(source.timeline, now, silent.get(SOURCE, 0))
        else:
            self.term.status('waiting for a migration')

    def _parts(self, timeline, now, silent):
        parts = super()._parts(timeline, now, silent)
        if 'iterations' not in self._recorder.source.members:
            parts = [part for part in parts if 'iteration ' not in part[0]]
        return parts[:1] + self._switchover() + parts[1:]

    def _switchover(self) -> list[tuple[str, bool]]:
        """What is special now; the rest is said by the other parts."""
        parts = []
        source, there = self._recorder.source, self._recorder.destination
        info = source.info.get('switchover')
        if info and info['phase'] != 'approach':
            parts.append((info['phase'], False))
        if info and info['attempts']:
            parts.append((f'attempt {info["attempts"]}', False))
        if info and info['quiesce']['windows']:
            parts.append((f'windows {info["quiesce"]["windows"]}', False))
        if there and there.phases.current not in (None, *RESTING):
            parts.append((f'destination {there.phases.current}', False))
        silent = self._silent.get(DESTINATION, 0)
        if silent > MONITOR_SILENT_S:
            parts.append((f"destination's monitor SILENT for {seconds(silent)}",
                          True))
        return parts
