# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches in mail format, and git repositories that last one command."""

import email.utils
import os
import re
import subprocess
from pathlib import Path

import series
from common import Error, run

AUTHOR_NAME = 'qemu-switchover maintainers'
AUTHOR_EMAIL = 'maintainers@users.noreply.qemu-switchover.example'
AUTHOR = f'{AUTHOR_NAME} <{AUTHOR_EMAIL}>'
FROM_LINE = f'From {"0" * 40} Mon Sep 17 00:00:00 2001'


def now():
    return email.utils.formatdate().replace('-0000', '+0000')


class Mail:
    """Author, date, subject and message of a patch; and its diff."""

    def __init__(self, author, date, subject, body, diff=''):
        self.author = author
        self.date = date
        self.subject = subject
        self.body = body.strip('\n')
        self.diff = diff

    @classmethod
    def parse(cls, text, where):
        head, _, rest = text.partition('\n\n')
        headers = {}
        name = None
        for line in head.split('\n'):
            if line.startswith('From ') or not line:
                continue
            if line[0] in ' \t' and name:
                headers[name] += ' ' + line.strip()
                continue
            name, colon, value = line.partition(':')
            if not colon:
                raise Error(f'{where}: not in mail format: "{line}"')
            name = name.lower()
            headers[name] = value.strip()
        for name in ('from', 'date', 'subject'):
            if name not in headers:
                raise Error(f'{where}: there is no "{name.title()}:" line')
        subject = re.sub(r'^\[PATCH[^]]*\]\s*', '', headers['subject'])
        body, diff = [], ''
        lines = rest.split('\n')
        for number, line in enumerate(lines):
            if line == '---' or line.startswith('diff --git '):
                start = next((i for i in range(number, len(lines))
                              if lines[i].startswith('diff --git ')), None)
                if start is not None:
                    diff = '\n'.join(lines[start:])
                break
            body.append(line)
        return cls(headers['from'], headers['date'], subject,
                   '\n'.join(body), diff)

    @classmethod
    def from_message(cls, text, date=None):
        """A new patch's message, written by someone: subject, blank, body."""
        lines = [line.rstrip() for line in text.strip().split('\n')]
        if not lines or not lines[0]:
            raise Error('the message is empty')
        subject = re.sub(r'^\[PATCH[^]]*\]\s*', '', lines[0])
        body = '\n'.join(lines[1:]).strip('\n')
        if 'Signed-off-by:' not in body:
            body = (body + '\n\n' if body else '') + f'Signed-off-by: {AUTHOR}'
        return cls(AUTHOR, date or now(), subject, body)

    def message(self):
        return f'{self.subject}\n\n{self.body}\n'

    def format(self, diff=None, stat=''):
        diff = self.diff if diff is None else diff
        subject = fold_subject(f'[PATCH] {self.subject}')
        text = (f'{FROM_LINE}\nFrom: {self.author}\nDate: {self.date}\n'
                f'Subject: {subject}\n\n{self.body}\n---\n')
        if stat:
            text += stat.rstrip('\n') + '\n'
        return text + '\n' + diff


def fold_subject(text):
    lines, line = [], ''
    for word in text.split():
        if line and len(line) + 1 + len(word) > (69 if not lines else 77):
            lines.append(line)
            line = word
        else:
            line = f'{line} {word}' if line else word
    return '\n '.join(lines + [line])


def load_mail(patch):
    return Mail.parse(patch.text.decode(), f'patches/{patch.name}')


class Repository:
    """A git repository of only the files that matter, without any settings.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith('GIT_')}
        self.env.update(
            GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM='1',
            GIT_AUTHOR_NAME=AUTHOR_NAME, GIT_AUTHOR_EMAIL=AUTHOR_EMAIL,
            GIT_COMMITTER_NAME=AUTHOR_NAME, GIT_COMMITTER_EMAIL=AUTHOR_EMAIL,
            GIT_EDITOR='true', LC_ALL='C', TZ='UTC')
        self.git('init', '-q', '-b', 'main')
        for name, value in (('core.autocrlf', 'false'), ('gc.auto', '0'),
                            ('commit.gpgsign', 'false'),
                            ('core.fileMode', 'true'),
                            ('advice.mergeConflict', 'false')):
            self.git('config', name, value)

    def git(self, *args, env=None, **kwargs):
        kwargs.setdefault('stdout', subprocess.PIPE)
        kwargs.setdefault('stderr', subprocess.PIPE)
        result = run(['git', *args], cwd=self.path,
                     env={**self.env, **(env or {})}, **kwargs)
        return (result.stdout or b'').decode()

    def try_git(self, *args):
        """(worked, output) of a command that may fail."""
        result = subprocess.run(['git', *args], cwd=self.path, env=self.env,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, check=False)
        return result.returncode == 0, result.stdout.decode(errors='replace')

    def commit(self, message, author=AUTHOR, date=None):
        """Commit all that there is, also nothing; the commit's name."""
        date = date or 'Sat, 01 Jan 2000 00:00:00 +0000'
        name, address = email.utils.parseaddr(author)
        self.git('add', '-A', '-f')
        self.git('commit', '-q', '--allow-empty', '--no-verify',
                 '--cleanup=verbatim', '-m', message,
                 env={'GIT_AUTHOR_NAME': name, 'GIT_AUTHOR_EMAIL': address,
                      'GIT_AUTHOR_DATE': date, 'GIT_COMMITTER_DATE': date})
        return self.head()

    def head(self):
        return self.git('rev-parse', 'HEAD').strip()

    def commit_mail(self, mail):
        return self.commit(mail.message(), mail.author, mail.date)

    def commit_series(self, patches, overlay_from=None):
        """One commit a patch; with its overlay slice if asked to."""
        commits = []
        for patch in patches:
            if patch.hunks():
                series.apply_patch(patch, self.path)
            if overlay_from:
                series.copy_touched(patch.overlay, overlay_from, self.path)
            commits.append(self.commit_mail(load_mail(patch)))
        return commits

    def diff(self, old, new):
        """A stable diff: no hashes, which differ between 10.0.y."""
        text = self.git('diff', '--no-color', '--no-renames',
                        '--diff-algorithm=histogram', '-U3', old, new)
        return re.sub(r'^index [0-9a-f]+\.\.[0-9a-f]+( \d+)?\n', '', text,
                      flags=re.MULTILINE)

    def stat(self, old, new):
        return self.git('diff', '--no-color', '--no-renames', '--stat=72',
                        '--summary', old, new)
