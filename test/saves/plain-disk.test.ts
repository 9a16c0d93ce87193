import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createNodes, FIRST, until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace', () => {
  it('are saved where the disk of the cache has no reflink, too', async () => {
    const plain = await createNodes();
    try {
      const volume = await plain.workspace('plain');
      const node = await plain.open('n1');
      const at = await node.stage(volume);
      writeFileSync(join(at, 'a'), 'changed');
      await until('a save', async () => (await plain.read(volume.id)).version !== volume.version);
      expect(await plain.content((await plain.read(volume.id)).version)).toEqual({ ...FIRST, a: 'changed' });
      writeFileSync(join(at, 'late'), 'kept');
      await node.unstage(volume);
      const { version } = await plain.read(volume.id);
      expect(await plain.content(version)).toEqual({ ...FIRST, a: 'changed', late: 'kept' });
    } finally {
      await plain[Symbol.asyncDispose]();
    }
  });
});
