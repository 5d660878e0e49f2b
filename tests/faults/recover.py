# SPDX-License-Identifier: GPL-2.0-or-later
"""Post-copy that was interrupted, and is taken up again

What a management layer does that has noticed that the network is gone: it pauses
the migration on both sides, waits for the network, and gives new addresses.  The
destination is told out of band: its main loop may wait for the guest, which waits
for a page.
"""

import asyncio

import qmp
from cell import RETURN_PATH
from scene import PORT, Scene
from vm import HarnessError, Vm

PAUSES_WITHIN_S = 10
NEXT_PORT = PORT + 10


def _out_of_band(scene: Scene, vm: Vm, command: str,
                 arguments: dict | None = None):
    try:
        connection = qmp.connect(scene.out_of_band(vm), PAUSES_WITHIN_S,
                                 oob=True)
    except qmp.QmpError as err:
        raise HarnessError(f'{vm.name}: {err}') from err
    try:
        request = connection.ask(command, arguments, oob=True)
        connection.wait(request, PAUSES_WITHIN_S)
        request.result()
    except qmp.QmpError as err:
        raise HarnessError(f'{vm.name}: {err}') from err
    finally:
        connection.close()


async def recover(scene: Scene, plug_in):
    """Pause, let the network come back by @plug_in(), and resume."""
    for vm in scene.source, scene.destination:
        await asyncio.to_thread(_out_of_band, scene, vm, 'migrate-pause')
    await scene.source.wait_event(
        'MIGRATION', PAUSES_WITHIN_S,
        lambda data: data['status'] == 'postcopy-paused')
    await scene.destination.wait_event(
        'MIGRATION', PAUSES_WITHIN_S,
        lambda data: data['status'] == 'postcopy-paused')
    await plug_in()
    where = {'uri': f'tcp:{scene.cable.b.address}:{NEXT_PORT}'}
    if RETURN_PATH in scene.features:
        where = scene.channels(False, NEXT_PORT)
    await asyncio.to_thread(_out_of_band, scene, scene.destination,
                            'migrate-recover', where)
    await scene.source.execute('migrate', {
        'resume': True, **scene.channels(True, NEXT_PORT)})
