# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's dirty bitmaps: each is where it belongs, whole and not in use

  keep   of disk1, persistent: there after each migration
  loose  of disk0: migrates with the capability dirty-bitmaps, else it is lost,
         and made again

A bitmap only gains bits until it is cleared, so one that has fewer after a
migration has lost some.
"""

import asyncio

from vm import HarnessError, Vm

KEEP = ('disk1', 'keep')
LOOSE = ('disk0', 'loose')


async def query(vm: Vm) -> dict[tuple[str, str], dict]:
    """All bitmaps of all nodes, by node and name."""
    nodes = await vm.execute('query-named-block-nodes', {'flat': True})
    return {(node['node-name'], bitmap.get('name', '')): bitmap
            for node in nodes for bitmap in node.get('dirty-bitmaps', [])}


async def _order(vm: Vm, order: str, bitmap: tuple[str, str], **options):
    await vm.execute(f'block-dirty-bitmap-{order}',
                     {'node': bitmap[0], 'name': bitmap[1], **options})


async def create(vm: Vm):
    await _order(vm, 'add', KEEP, persistent=True)
    await _order(vm, 'add', LOOSE)


async def counts(vm: Vm, clear: bool) -> dict[tuple[str, str], int]:
    """How many bytes each says are dirty, after clearing them if @clear."""
    if clear:
        for bitmap in (KEEP, LOOSE):
            await _order(vm, 'clear', bitmap)
    return {name: bitmap['count'] for name, bitmap in (await query(vm)).items()}


def _wrong(found: dict, expected: set, at_least: dict) -> str:
    """What is wrong with a set of bitmaps, or ''."""
    problems = [f'{"/".join(name)} is missing'
                for name in expected - set(found)]
    problems += [f'{"/".join(name)} is left over'
                 for name in set(found) - expected]
    for name, bitmap in found.items():
        problems += [f'{"/".join(name)} is {state}'
                     for state in ('busy', 'inconsistent') if bitmap.get(state)]
        if bitmap['count'] < at_least.get(name, 0):
            problems.append(f'{"/".join(name)} has {bitmap["count"]} dirty '
                            f'bytes, less than {at_least[name]}')
        if not bitmap['recording']:
            problems.append(f'{"/".join(name)} does not record')
    return ', '.join(problems)


async def check(vm: Vm, moved: bool, with_bitmaps: bool, before: dict):
    """The owner's after a turn; they may be in use for another moment."""
    expected = {KEEP} if moved and not with_bitmaps else {KEEP, LOOSE}
    problem = ''
    for _ in range(100):
        problem = _wrong(await query(vm), expected, before)
        if 'busy' not in problem:
            break
        await asyncio.sleep(0.1)
    if problem:
        raise HarnessError(f'dirty bitmaps at {vm.name}: {problem}')
    if LOOSE not in expected:
        await _order(vm, 'add', LOOSE)
    if with_bitmaps and not moved:
        # QEMU goes on taking it for one that is migrated, and so need not be
        # stored in its image: unpatched 10.0 does so as well.
        await _order(vm, 'remove', KEEP)
        await _order(vm, 'add', KEEP, persistent=True)


async def check_left(vm: Vm):
    """Of the source that has given the guest away."""
    for name, bitmap in (await query(vm)).items():
        if bitmap.get('inconsistent') or bitmap.get('busy'):
            raise HarnessError(f'dirty bitmap {"/".join(name)} at {vm.name}, '
                               f'which has given the guest away: {bitmap}')
