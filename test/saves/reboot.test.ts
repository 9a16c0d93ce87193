import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FIRST, until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace of a machine that was started again', (setting) => {
  it('are saved after the machine was started again, where nobody stages it any more', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('rebooted', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    await nodes.open('n1');
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, late: 'kept' });
  });

  it('are there at once where the machine that was started again stages it', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('restaged', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    const at = await (await nodes.open('n1')).stage(volume);
    expect(readFileSync(join(at, 'late'), 'utf8')).toBe('kept');
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, holder: { node: 'n1' } });
  });

  it('are told by a daemon that was started again as it finds them in the record, before it saves any', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('told', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'a'), 'changed');
    const { version } = await node.node.saves.saveNow(volume.id);
    await node.close();
    const { saves } = (await nodes.open('n1')).node.volumes;
    await until('it is told', () => saves.stateOf(volume.id)?.version === version);
    expect(saves.stats().saves).toEqual({});
  });
});
