# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing and reading the Test Anything Protocol."""

import re
import sys

RESULT = re.compile(r'^(ok|not ok)\b\s*(\d+)?\s*(?:- )?(.*)$')
PLAN = re.compile(r'^1\.\.(\d+)(?:\s*#\s*(.*))?$')
DIRECTIVE = re.compile(r'(?:^|\s)#\s*(SKIP|TODO)\b\s*:?\s*(.*)$',
                       re.IGNORECASE)


class Writer:
    """Prints results as they come, and the plan at the end."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def note(self, text):
        for line in str(text).splitlines() or ['']:
            print(f'# {line}'.rstrip(), flush=True)

    def result(self, good, name, why=''):
        self.count += 1
        if not good:
            self.failed += 1
        if why:
            self.note(why)
        print(f'{"ok" if good else "not ok"} {self.count} - {name}',
              flush=True)
        return good

    def skip(self, name, why):
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {why}', flush=True)

    def end(self):
        """Print the plan; the exit status."""
        print(f'1..{self.count}', flush=True)
        return 1 if self.failed else 0


class TableWriter(Writer):
    """The same for a person to read."""

    def note(self, text):
        for line in str(text).splitlines():
            print(f'      {line}', flush=True)

    def result(self, good, name, why=''):
        self.count += 1
        if not good:
            self.failed += 1
        print(f'{"ok" if good else "FAIL":4}  {name}', flush=True)
        if why:
            self.note(why)
        return good

    def skip(self, name, why):
        self.count += 1
        print(f'skip  {name}: {why}', flush=True)

    def end(self):
        sys.stdout.flush()
        return 1 if self.failed else 0


class Reader:
    """Follows a TAP stream line by line."""

    def __init__(self):
        self.plan = None
        self.plan_reason = ''
        self.passed = self.failed = self.skipped = 0
        self.bailed = None

    @property
    def seen(self):
        return self.passed + self.failed + self.skipped

    def feed(self, line):
        """(state, name, remark) if the line is a test's result, or None."""
        line = line.rstrip('\r\n')
        match = PLAN.match(line)
        if match:
            self.plan = int(match.group(1))
            self.plan_reason = match.group(2) or ''
            return None
        if line.startswith('Bail out!'):
            self.bailed = line[len('Bail out!'):].strip() or 'no reason given'
            return None
        match = RESULT.match(line)
        if not match:
            return None
        name, remark = match.group(3), ''
        directive = DIRECTIVE.search(name)
        state = 'pass' if match.group(1) == 'ok' else 'fail'
        if directive:
            name = name[:directive.start()].strip()
            remark = directive.group(2)
            if directive.group(1).upper() == 'SKIP' and state == 'pass':
                state = 'skip'
            elif directive.group(1).upper() == 'TODO':
                state, remark = 'skip', f'TODO {remark}'
        if state == 'pass':
            self.passed += 1
        elif state == 'fail':
            self.failed += 1
        else:
            self.skipped += 1
        return state, name or f'test {match.group(2)}', remark
