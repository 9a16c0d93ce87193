import { randomBytes } from 'node:crypto';
import {
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { textOf } from '../dataset/byte-string.ts';
import { importDirectory } from '../dataset/import.ts';
import { readSegment } from '../dataset/manifest.ts';
import { initRepository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { openCache } from './cache.ts';
import { createHydrator } from './hydrate.ts';
import { stage } from './staged.fixture.ts';
import { verifyCache } from './verify.ts';

describeRepositories('a cache', (make) => {
  it('gives back every byte of an imported directory: compressed, large, sparse, equal and tiny files', async () => {
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'larder-cache-test-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    const repository = await initRepository(await make());
    stack.defer(() => repository.bucket.close());
    vi.stubEnv('LARDER_STATE', join(folder, 'state'));
    stack.defer(() => {
      vi.unstubAllEnvs();
    });
    const source = join(folder, 'source');
    mkdirSync(join(source, 'deep', 'er'), { recursive: true });
    const write = (path: string, bytes: string | Buffer) => writeFileSync(join(source, path), bytes);
    write('text', 'a line that comes again and again\n'.repeat(20_000));
    write('large', randomBytes(30_000_000));
    write('large-text', Buffer.alloc(24_000_000, 'every number from one: 1 2 3 4 5 6 7 8 9 10 11 12\n'));
    write('empty', '');
    write('tiny', 'tiny');
    write('twin', readFileSync(join(source, 'text')));
    for (let at = 0; at < 300; at += 1) write(`deep/er/file ${at}`, randomBytes(300 + at * 31));
    const sparse = openSync(join(source, 'sparse'), 'w');
    writeSync(sparse, randomBytes(100_000), 0, 100_000, 20_000_000);
    ftruncateSync(sparse, 90_000_000);

    const imported = await importDirectory({
      repository,
      source,
      dataset: 'd',
      branch: 'main',
      message: 'm',
      author: 'a',
    });
    const { root } = await readVersion(repository, imported.version.id);
    const staged = await stage(repository, root);
    const cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
    const hydrator = stack.use(createHydrator({ cache, threads: 2 }));
    hydrator.register(staged);
    await hydrator.prefetch(staged);
    let compared = 0;
    for (const segment of staged.map.segments) {
      for (const entry of await readSegment(repository, segment)) {
        if (entry.type !== 'file' || entry.content.kind === 'inline') continue;
        const original = readFileSync(join(source, textOf(entry.path)));
        expect(readFileSync(cache.objectPath(entry.content.id)).equals(original), textOf(entry.path)).toBe(true);
        if (textOf(entry.path) === 'sparse') {
          expect(statSync(cache.objectPath(entry.content.id)).blocks * 512).toBeLessThan(1_000_000);
        }
        compared += 1;
      }
    }
    expect(compared).toBe(305);
    const verified = await verifyCache({ cache, sources: [staged] });
    expect(verified).toMatchObject({ objects: 304, damaged: [], unknown: [] });
  });
});
