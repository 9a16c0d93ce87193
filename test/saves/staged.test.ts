import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FIRST, until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace that is staged', (setting) => {
  it('are in the repository soon after they were made, while it is staged', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('one');
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, holder: { node: 'n1' }, lower: volume.version });
    writeFileSync(join(at, 'new'), 'written');
    writeFileSync(join(at, 'a'), 'changed');
    rmSync(join(at, 'b'));
    const saved = await until('a save', async () => {
      const { version } = await nodes.read(volume.id);
      return version === volume.version ? undefined : version;
    });
    expect(await nodes.content(saved)).toEqual({ a: 'changed', 'folder/c': 'first folder/c', new: 'written' });
    const state = node.node.saves.stateOf(volume.id);
    expect(state).toMatchObject({ generation: 1, version: saved });
    await until('nothing is late', () => node.node.saves.stateOf(volume.id)!.lag < 2_000, 90_000);
    expect(node.node.saves.stateOf(volume.id)).not.toHaveProperty('failing');
  });

  it('are in the repository when a save that was asked for is over, and what was not changed makes no version', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('asked', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    for (let round = 1; round <= 3; round += 1) {
      writeFileSync(join(at, 'a'), `round ${round}`);
      const { version } = await node.node.saves.saveNow(volume.id);
      expect(await nodes.content(version)).toEqual({ ...FIRST, a: `round ${round}` });
      const again = await Promise.all([1, 2, 3].map(() => node.node.saves.saveNow(volume.id)));
      expect(again.map((each) => each.version)).toEqual([version, version, version]);
    }
    const { saves } = node.node.volumes.saves.stats();
    expect(saves.created).toBe(3);
  });

  it('stay in its image where the same node stages it again, and what follows is saved as little as before', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('again', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'one'), '1');
    await node.unstage(volume);
    const at = await node.stage(volume);
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, lower: volume.version });
    writeFileSync(join(at, 'two'), '2');
    await node.unstage(volume);
    const { version } = await nodes.read(volume.id);
    expect(await nodes.content(version)).toEqual({ ...FIRST, one: '1', two: '2' });
  });

  it('go on being saved by a daemon that was started again', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('restarted');
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    await node.close();
    writeFileSync(join(at, 'between'), 'two daemons');
    await nodes.open('n1');
    await until('a save', async () => (await nodes.read(volume.id)).version !== volume.version);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toMatchObject({ between: 'two daemons' });
  });
});
