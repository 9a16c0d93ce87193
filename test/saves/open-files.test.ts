import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { HeldError } from '../../dataset/volume-terms.ts';
import { until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace that is unstaged', (setting) => {
  it('that are made after it is unstaged, by somebody who still has a file open, are saved too', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('busy', { retention: 'drop', autosave: 0 });
    const [node, second] = [await nodes.open('n1'), await nodes.open('n2')];
    const at = await node.stage(volume);
    const file = openSync(join(at, 'open'), 'w');
    try {
      writeSync(file, 'before, ');
      await node.unstage(volume);
      expect((await nodes.read(volume.id)).holder).toMatchObject({ node: 'n1', unsaved: true });
      await expect(second.stage(volume)).rejects.toThrow(HeldError);
      writeSync(file, 'after');
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(readFileSync(join(await second.stage(volume), 'open'), 'utf8')).toBe('before, after');
    expect(node.node.saves.stateOf(volume.id)).toBe(undefined);
  });
});
