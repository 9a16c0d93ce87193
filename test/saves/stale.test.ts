import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readBranch } from '../../dataset/refs.ts';
import { FIRST, GIVE_UP, until, workspacesOf } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace that another node had since', (setting) => {
  it('of an older generation are set aside when the node stages it again, which begins on what came after', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('stale', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'old'), 'not saved');
    await first.reboot();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    writeFileSync(join(second.at(volume), 'new'), 'of the second');
    await second.unstage(volume);

    const back = await nodes.open('n1');
    const at = await back.stage(volume);
    expect(readdirSync(at).sort()).toEqual(['a', 'b', 'folder', 'new']);
    const ref = await until('the branch', () => readBranch(nodes.repository, 'set', 'aside/stale/n1-1'));
    expect(await nodes.content(ref.version)).toEqual({ ...FIRST, old: 'not saved' });
    await until('its image goes', () => !workspacesOf(back).some((name) => name.includes('%40')));
    await back.unstage(volume);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, new: 'of the second' });
  });

  it('of a node that had all saved leave nothing behind when another had it since', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('clean', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'one'), 'saved');
    await first.node.saves.saveNow(volume.id);
    await first.reboot();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    const back = await nodes.open('n1');
    await until('its image goes', () => workspacesOf(back).length === 0);
    expect(await nodes.read(volume.id)).not.toHaveProperty('aside');
  });
});
