import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FIRST, until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('a workspace in which nothing is done', (setting) => {
  it('needs neither the repository nor the process that saves, and what is then done is saved', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('idle', { retention: 'drop' });
    const node = await nodes.open('n1', { autosave: 200 });
    const at = await node.stage(volume);
    const { saves } = node.node.volumes;
    const idle = () => saves.stats().saves.idle ?? 0;
    // The first that finds nothing is the saver's.
    await until('nothing is found', () => idle() >= 2);
    const pid = saves.stats().saverPid!;
    process.kill(pid, 'SIGKILL');
    await until('it has ended', () => saves.stats().saverPid === undefined);
    const { location } = nodes.repository;
    renameSync(location, `${location}.away`);
    const before = idle();
    await until('more of them find nothing', () => idle() >= before + 5);
    expect(saves.stats()).toMatchObject({ failing: 0, saves: { idle: idle() } });
    expect(saves.stats().saves).not.toHaveProperty('failed');
    expect(saves.stats().saverPid).toBe(undefined);
    expect(saves.stateOf(volume.id)!.lag).toBeLessThan(2_000);

    writeFileSync(join(at, 'a'), 'changed');
    await until('it is told', () => saves.stateOf(volume.id)!.failing);
    renameSync(`${location}.away`, location);
    await until('it is saved', async () => (await nodes.read(volume.id)).version !== volume.version);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, a: 'changed' });
  });
});
