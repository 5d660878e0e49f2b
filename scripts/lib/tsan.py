# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading ThreadSanitizer's reports: which of them are about our code?

A report is ours if one of the stacks that it is about
 - goes through an overlay file, or through a line that a hook added; or
 - ends in a function of QEMU's that a hook changed.
Any other is about code that is as it was, called by code that is as it was.
"""

import os
import re
import subprocess

import basetree
import prepare
import series

REPORT = re.compile(r'^WARNING: ThreadSanitizer: (.*?)(?: \(pid=\d+\))?$',
                    re.M)
SUMMARY = re.compile(r'^SUMMARY: ThreadSanitizer: .* in (.*)$', re.M)
FRAME = re.compile(r'^    #\d+ (\S+) (.+?)(?::(\d+))?(?::\d+)? \(', re.M)
HUNK = re.compile(r'^@@ -\S+ \+(\d+)(?:,(\d+))? @@', re.M)
# What says where something comes from, not what happened to it.
ORIGIN = re.compile(r'^  (?:Location is|Thread T|Mutex M|As if|\[failed)')


class Ours:
    """What of the patched tree is this project's."""

    def __init__(self):
        patches = series.load()
        self.tree = prepare.source_dir('patched')
        self.overlay = set(series.overlay_files(patches))
        base = basetree.current()['tree']
        self.lines, self.functions = {}, {}
        for name in series.touched_files(patches):
            self.lines[name] = self.changed(base, name, '-U0')
            self.functions[name] = self.changed(base, name, '-W')

    def changed(self, base, name, context):
        diff = subprocess.run(
            ['git', 'diff', '--no-index', '--no-color', '--no-ext-diff',
             context, os.path.join(base, name), os.path.join(self.tree, name)],
            stdout=subprocess.PIPE, check=False).stdout
        return [range(int(first), int(first) + int(count or 1))
                for first, count in HUNK.findall(diff.decode(errors='replace'))]

    def name(self, path):
        """A frame's path as it is in QEMU's tree, or None."""
        _, mark, name = os.path.normpath(path).partition('/patched/src/')
        return name if mark else None

    def has_stack(self, stack):
        """stack: (path, line) of each frame, innermost first."""
        innermost = True
        for path, line in stack:
            name = self.name(path)
            if name is None:
                continue
            if name in self.overlay:
                return True
            if any(line in lines for lines in self.lines.get(name, ())):
                return True
            if innermost and any(line in lines
                                 for lines in self.functions.get(name, ())):
                return True
            innermost = False
        return False

    def has_report(self, text):
        parts = text[REPORT.match(text).end():].lstrip('\n').split('\n\n')
        return any(self.has_stack([(path, int(line or 0)) for _, path, line
                                   in FRAME.findall(part)])
                   for part in parts if not ORIGIN.match(part))


def reports(path):
    """(title, text) of each report in a file; (title, None): it is none."""
    whole = path.read_text(errors='replace')
    starts = [match.start() for match in REPORT.finditer(whole)]
    if not starts and whole.strip():
        yield whole.strip().splitlines()[0], None
    for start, end in zip(starts, [*starts[1:], len(whole)]):
        text = whole[start:end]
        kind, where = REPORT.match(text).group(1), SUMMARY.search(text)
        yield f'{kind} in {where.group(1)}' if where else kind, text


def sort(paths):
    """Two dictionaries, ours and QEMU's own: title -> [file of each report].

    What is no report, such as that ThreadSanitizer itself failed, is ours.
    """
    code = Ours()
    ours, others = {}, {}
    for path in paths:
        for title, text in reports(path):
            mine = text is None or code.has_report(text)
            (ours if mine else others).setdefault(title, []).append(path)
    return ours, others
