import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readBranch } from '../../dataset/refs.ts';
import { FencedError } from '../../dataset/volume-terms.ts';
import { FIRST, GIVE_UP, until, workspacesOf } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace that another node has now', (setting) => {
  it('of a node that was given up are set aside as a branch when it comes back, and change nothing of what came after', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('split', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    const at = await first.stage(volume);
    writeFileSync(join(at, 'old'), 'saved');
    await first.node.saves.saveNow(volume.id);
    writeFileSync(join(at, 'old'), 'not saved');
    // Its mounts stay, and its pods write on.
    await first.close();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    writeFileSync(join(second.at(volume), 'new'), 'of the second');
    const { version } = await second.node.saves.saveNow(volume.id);

    const back = await nodes.open('n1', { autosave: 300 });
    await expect(back.node.saves.saveNow(volume.id)).rejects.toThrow(FencedError);
    const branch = 'aside/split/n1-1';
    expect(back.node.saves.stateOf(volume.id)).toMatchObject({ fenced: { branch } });
    const ref = await readBranch(nodes.repository, 'set', branch);
    expect(await nodes.content(ref!.version)).toEqual({ ...FIRST, old: 'not saved' });
    expect(await nodes.read(volume.id)).toMatchObject({ version, generation: 2, aside: [branch] });
    expect(await nodes.content(version)).toEqual({ ...FIRST, old: 'saved', new: 'of the second' });

    // The pod goes on, and what it still writes is kept as well; then the image goes.
    writeFileSync(join(at, 'later'), 'still not saved');
    await back.unstage(volume);
    const again = await readBranch(nodes.repository, 'set', `${branch}-2`);
    expect(await nodes.content(again!.version)).toEqual({ ...FIRST, old: 'not saved', later: 'still not saved' });
    expect(workspacesOf(back)).toEqual([]);
    expect((await nodes.read(volume.id)).version).toBe(version);
  });
});
