# SPDX-License-Identifier: GPL-2.0-or-later
"""Post-copy that was interrupted, and is taken up again

What a management layer does that has noticed that the network is gone: it
pauses the migration on both sides, waits for the network, and gives new
addresses.  The destination is told out of band: its main loop may wait for the
guest, which waits for a page.
"""

import asyncio
import time

from cell import RETURN_PATH
from scene import PORT, Scene

PAUSES_WITHIN_S = 10
NEXT_PORT = PORT + 10


async def recover(scene: Scene, plug_in):
    """Pause, let the network come back by @plug_in(), and resume."""
    for vm in scene.source, scene.destination:
        await asyncio.to_thread(scene.out_of_band, vm, 'migrate-pause')
    await scene.source.wait_event(
        'MIGRATION', PAUSES_WITHIN_S,
        lambda data: data['status'] == 'postcopy-paused')
    await scene.destination.wait_event(
        'MIGRATION', PAUSES_WITHIN_S,
        lambda data: data['status'] == 'postcopy-paused')
    await plug_in()
    resumed = time.monotonic()
    where = {'uri': f'tcp:{scene.cable.b.address}:{NEXT_PORT}'}
    if RETURN_PATH in scene.features:
        where = scene.channels(False, NEXT_PORT)
    await asyncio.to_thread(scene.out_of_band, scene.destination,
                            'migrate-recover', where)
    await scene.source.execute('migrate', {
        'resume': True, **scene.channels(True, NEXT_PORT)})
    await scene.source.wait_event(
        'MIGRATION', PAUSES_WITHIN_S,
        lambda data: data['status'] == 'postcopy-active', resumed)
