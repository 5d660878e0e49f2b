# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/switchover-report, running beside a migration that is measured

It has monitors of its own.  While the migration runs it only asks and keeps a log;
the picture is drawn when there is nothing to be measured any more.
"""

from pathlib import Path
import subprocess

from vm import ROOT, HarnessError, Process, until

SCRIPT = ROOT / 'scripts/switchover-report'
# It may look for a while whether there is more to come.
ENDS_S = 20
DRAWS_S = 120


def monitor(name: str) -> list[str]:
    """QEMU's arguments for the monitor; QEMU runs in the report's directory."""
    return ['-qmp', f'unix:{name}.qmp,server=on,wait=off']


class ReportBeside:
    """A report on the migration from one QEMU to another, both by their names."""

    def __init__(self, directory: Path, source: str, destination: str):
        self.log = directory / 'report.log'
        self.monitors = [f'{source}.qmp', f'{destination}.qmp']
        self.process = Process('switchover-report', directory)

    def start(self):
        self.process.spawn([SCRIPT, '--quiet', '--brief', '--interval', '0.1',
                            '--log', self.log, *self.monitors])

    async def finish(self):
        """Once the migration has ended: wait until it has come to its end, too."""
        await until(lambda: not self.process.running, ENDS_S,
                    'switchover-report')
        if self.process.popen.returncode not in (0, 1):
            raise HarnessError('switchover-report failed: '
                               f'{self.process.log_tail()}')

    async def end(self):
        """Whatever it does; also if it was not started."""
        await self.process.end()

    def draw(self, page: Path) -> list[str]:
        """Write @page, and return the report as lines of text."""
        command = [str(SCRIPT), '--from', str(self.log), '--quiet', '--brief',
                   '--html', str(page)]
        try:
            done = subprocess.run(command, capture_output=True, text=True,
                                  timeout=DRAWS_S, check=False)
        except subprocess.TimeoutExpired as err:
            raise HarnessError(f'switchover-report: {err}') from err
        if done.returncode not in (0, 1) or not page.exists():
            raise HarnessError(f'switchover-report: {done.stderr.strip()}')
        return done.stdout.splitlines() + done.stderr.splitlines()
