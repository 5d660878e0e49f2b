# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program that speaks TAP, and saying what became of it"""

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import threading
import time

import tap

SILENCE_S = 30


def end_group(process):
    """End the program and all it started, first politely."""
    for number, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            # The program is gone; whatever it left behind goes, too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        return


def verdict(process, reader):
    """What is wrong with how it ended, or None."""
    status = process.returncode
    if reader.bailed:
        return f'bailed out: {reader.bailed}'
    if status is not None and status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return f'ended by {name} after {reader.seen} results'
    if reader.plan is None:
        return f'ended with status {status} and no plan'
    if reader.seen != reader.plan:
        return (f'ended with status {status} after {reader.seen} of '
                f'{reader.plan} results')
    if status and not reader.failed:
        return f'ended with status {status}'
    if not reader.plan:
        return 'it has no test' if not reader.plan_reason else None
    return None


class TapRun:
    """One run of a program, in a process group of its own.

    reader: the sum of its results
    on_result(state, name, remark, seconds): called with each, as it comes
    on_silence(seconds): called when there is none for long
    stopping: an event of others, on which it ends
    """

    def __init__(self, limit_s, on_result, on_silence=lambda seconds: None,
                 stopping=None):
        self.reader = tap.Reader()
        self.limit_s = limit_s
        self.on_result = on_result
        self.on_silence = on_silence
        self.stopping = stopping or threading.Event()

    def run(self, argv, log_path, mode='wb', shown=None, **kwargs):
        """Run it to its end; what went wrong, or None.

        @shown: the command as the log tells it
        @kwargs: for Popen, such as cwd and env
        """
        with open(log_path, mode) as log:
            log.write(f'$ {shlex.join(shown or argv)}\n'.encode())
            log.flush()
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, start_new_session=True, **kwargs)
            try:
                trouble = self._follow(process, log)
            finally:
                end_group(process)
        return trouble or verdict(process, self.reader)

    def _follow(self, process, log):
        """Read results until the program ends; what went wrong, or None."""
        lines = queue.Queue()

        def pump():
            for raw in process.stdout:
                lines.put(raw)
            lines.put(None)

        threading.Thread(target=pump, daemon=True).start()
        limit = time.monotonic() + self.limit_s
        last_result = last_sign = time.monotonic()
        ended = None
        while True:
            now = time.monotonic()
            if self.stopping.is_set():
                return 'interrupted'
            if now > limit:
                return f'not done after {self.limit_s} s'
            if ended is None and process.poll() is not None:
                ended = now
            if ended is not None and now - ended > 5:
                # Something that it started holds its output open.
                return None
            if now - last_sign >= SILENCE_S:
                self.on_silence(now - last_result)
                last_sign = now
            try:
                raw = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if raw is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                return None
            log.write(raw)
            log.flush()
            result = self.reader.feed(raw.decode(errors='replace'))
            if result:
                now = time.monotonic()
                self.on_result(*result, now - last_result)
                last_result = last_sign = now
