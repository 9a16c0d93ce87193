import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { HeldError } from '../../dataset/volume-terms.ts';
import { FIRST, mountedBelow, until, workspacesOf } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace that is unstaged', (setting) => {
  it('are saved when it is unstaged, and are there on the next node and the one after', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('moving', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'from-1'), '1');
    await expect(second.stage(volume)).rejects.toThrow(HeldError);
    expect(workspacesOf(second)).toEqual([]);
    await first.unstage(volume);
    expect(mountedBelow(nodes.directory).filter(({ mountPoint }) => mountPoint.includes(volume.id))).toEqual([]);
    const released = await nodes.read(volume.id);
    expect(released).not.toHaveProperty('holder');
    expect(await nodes.content(released.version)).toEqual({ ...FIRST, 'from-1': '1' });

    const at = await second.stage(volume);
    expect(readFileSync(join(at, 'from-1'), 'utf8')).toBe('1');
    writeFileSync(join(at, 'from-2'), '2');
    await second.unstage(volume);
    const back = await first.stage(volume);
    expect(readFileSync(join(back, 'from-2'), 'utf8')).toBe('2');
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 3, holder: { node: 'n1' } });
    rmSync(join(back, 'from-1'));
    await first.unstage(volume);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, 'from-2': '2' });
    expect(await nodes.read(volume.id)).not.toHaveProperty('aside');
  });

  it('are kept where the repository is away when it is unstaged, and saved when it is back; others wait until then', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('away', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    const { location } = nodes.repository;
    renameSync(location, `${location}.away`);
    await node.unstage(volume);
    expect(existsSync(join(node.cache, 'workspaces', `${volume.id}.xfs`))).toBe(true);
    expect(node.node.saves.stateOf(volume.id)).toHaveProperty('failing');
    // Nothing was written to where the disk was.
    expect(existsSync(location)).toBe(false);
    renameSync(`${location}.away`, location);
    const second = await nodes.open('n2');
    await expect(second.stage(volume)).rejects.toThrow(HeldError);
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(readFileSync(join(await second.stage(volume), 'late'), 'utf8')).toBe('kept');
  });

  it('can be given up by whoever deletes the image, as the log says: the volume is what was saved last', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('hopeless', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    writeFileSync(join(at, 'a'), 'saved');
    const { version } = await node.node.saves.saveNow(volume.id);
    writeFileSync(join(at, 'a'), 'never saved');
    const { location } = nodes.repository;
    renameSync(location, `${location}.away`);
    await node.unstage(volume);
    await node.close();
    const image = join(node.cache, 'workspaces', `${volume.id}.xfs`);
    expect(nodes.log()).toContain(`delete ${image} and start it again`);
    rmSync(image);
    renameSync(`${location}.away`, location);
    const back = await nodes.open('n1');
    await until('it is released', async () => (await nodes.read(volume.id)).holder === undefined);
    expect((await nodes.read(volume.id)).version).toBe(version);
    await until('all of it goes', () => workspacesOf(back).length === 0);
  });
});
