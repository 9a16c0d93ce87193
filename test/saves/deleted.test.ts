import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { deleteVolume } from '../../controller/volumes.ts';
import { readBranch } from '../../dataset/refs.ts';
import { FIRST, until, workspacesOf } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace', (setting) => {
  it('to a volume that was deleted meanwhile are a branch, and its image goes', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('deleted', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    await deleteVolume(nodes.repository, volume.id, { nodes: { look: async () => 0 } });
    const back = await nodes.open('n1');
    const ref = await until('the branch', () => readBranch(nodes.repository, 'set', 'aside/deleted/n1-1'));
    expect(await nodes.content(ref.version)).toEqual({ ...FIRST, late: 'kept' });
    await until('its image goes', () => workspacesOf(back).length === 0);
  });
});
