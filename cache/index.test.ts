import { existsSync, mkdtempSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { canMount } from '../test/support/privilege.ts';
import { smallDisk } from '../test/support/small-disk.ts';
import { type Cache, openCache } from './cache.ts';
import { type CacheIndex, type IndexedObject, openIndex } from './index.ts';

let folder: string;
let cache: Cache;
let index: CacheIndex;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-index-'));
  cache = await openCache({ directory: folder });
  index = openIndex(cache);
});
afterEach(async () => {
  await index.close();
  await cache.close();
  rmSync(folder, { recursive: true, force: true });
});

function put(count: number, start = 0): Digest[] {
  const writer = cache.writer();
  const ids = Array.from({ length: count }, (_, at) => {
    const bytes = Buffer.from(`object ${start + at}`);
    writer.put(sha256(bytes), bytes);
    return sha256(bytes);
  });
  writer.close();
  return ids;
}

async function all(): Promise<IndexedObject[]> {
  const objects: IndexedObject[] = [];
  for await (const batch of index.batches()) objects.push(...batch);
  return objects;
}

async function reopen(): Promise<void> {
  await index.close();
  index = openIndex(cache);
}

describe("a cache's index", () => {
  it('follows what comes and goes', async () => {
    const ids = put(25);
    expect(index.totals()).toEqual({ objects: 25, bytes: 10 * 8 + 15 * 9, held: 25 * 4096 });
    cache.remove(ids[0]!);
    expect(index.totals().objects).toBe(24);
    expect(index.get(ids[0]!)).toBeUndefined();
    expect(index.get(ids[1]!)).toMatchObject({ id: ids[1], size: 8 });
    expect((await all()).map(({ id }) => id)).toEqual(ids.slice(1).sort());
  });

  it('finds objects by the beginning of their ids', () => {
    const ids = put(40).sort();
    const [first] = ids;
    expect(index.startingWith(first!.slice(0, 16)).map(({ id }) => id)).toEqual([first]);
    const fan = first!.slice(0, 2);
    expect(index.startingWith(fan).map(({ id }) => id)).toEqual(ids.filter((id) => id.startsWith(fan)));
  });

  it('goes on behind an id, some at a time', async () => {
    const ids = put(25).sort();
    const sizes: number[] = [];
    const seen: Digest[] = [];
    for await (const batch of index.batches({ after: ids[4]!, size: 8 })) {
      sizes.push(batch.length);
      seen.push(...batch.map(({ id }) => id));
    }
    expect(sizes).toEqual([8, 8, 4]);
    expect(seen).toEqual(ids.slice(5));
  });

  it('counts an object once that comes twice, and by the size that it has', async () => {
    const [id] = put(3);
    cache.announce([{ id: id!, size: 10_000 }]);
    cache.announce([{ id: id!, size: 10_000 }]);
    expect(index.totals()).toEqual({ objects: 3, bytes: 10_000 + 16, held: 12_288 + 2 * 4096 });
    cache.remove(id!);
    cache.remove(id!);
    expect(index.totals()).toEqual({ objects: 2, bytes: 16, held: 2 * 4096 });
    await reopen();
    expect(index.totals()).toEqual({ objects: 2, bytes: 16, held: 2 * 4096 });
  });

  it('remembers over a close when an object was checked', async () => {
    const [id] = put(1);
    index.markVerified(id!, 1234);
    await reopen();
    expect(index.get(id!)?.verified).toBe(1234);
  });

  it('is made anew from the directory when its file is gone or is no database', async () => {
    put(30);
    for (const spoil of [
      (file: string) => unlinkSync(file),
      (file: string) => writeFileSync(file, 'this is no database at all'.repeat(1000)),
    ]) {
      await index.close();
      spoil(cache.layout.index);
      index = openIndex(cache);
      await index.settled;
      expect(index.totals().objects).toBe(30);
    }
  });

  it('finds what came and went while nobody wrote it down', async () => {
    const ids = put(300);
    index.totals();
    // As after a kill: the file tells that it was not closed.
    const killed = index;
    unlinkSync(cache.objectPath(ids[7]!));
    index = openIndex(cache);
    const more = put(100, 300);
    await index.settled;
    expect((await all()).map(({ id }) => id)).toEqual([...ids, ...more].filter((id) => id !== ids[7]).sort());
    await killed.close();
  });

  it('is not opened before it may be, and misses nothing of what came until then', async () => {
    put(2);
    await index.close();
    unlinkSync(cache.layout.index);
    const may = Promise.withResolvers<void>();
    index = openIndex(cache, { after: may.promise });
    put(3, 2);
    expect(existsSync(cache.layout.index)).toBe(false);
    may.resolve();
    await index.settled;
    expect(index.totals().objects).toBe(5);
  });

  it('finds what came before a kill that came before it was opened', async () => {
    put(2);
    await index.settled;
    await index.close();
    const killed = openIndex(cache, { after: new Promise(() => {}) });
    index = openIndex(cache, { after: Promise.resolve() });
    put(3, 2);
    await index.settled;
    expect(index.totals().objects).toBe(5);
    await killed.close();
  });

  it('stays closed in order where nobody asked it and nothing came', async () => {
    const [id] = put(1);
    await index.settled;
    await index.close();
    await openIndex(cache, { after: new Promise(() => {}) }).close();
    unlinkSync(cache.objectPath(id!));
    index = openIndex(cache);
    await index.settled;
    expect(index.totals().objects).toBe(1);
  });

  it('reads no directory where it was closed in order', async () => {
    const [id] = put(1);
    await index.settled;
    await index.close();
    // Behind the index's back: it must not notice.
    unlinkSync(cache.objectPath(id!));
    index = openIndex(cache);
    await index.settled;
    expect(index.totals().objects).toBe(1);
    expect(readdirSync(join(cache.layout.objects, id!.slice(0, 2)))).toEqual([]);
  });
});

describe.skipIf(!canMount)('an index on a full disk', () => {
  it('goes on, and writes what came and went when there is room again', async () => {
    await using disk = await smallDisk({ bytes: 64 * 2 ** 20 });
    const directory = join(disk.directory, 'cache');
    await using full = await openCache({ directory });
    const ids = Array.from({ length: 3_000 }, (_, at) => sha256(`${at}`));
    {
      await using followed = openIndex(full);
      await followed.settled;
      full.announce([{ id: ids[0]!, size: 10 }]);
      expect(followed.totals().objects).toBe(1);
      const empty = disk.fill();
      full.announce(ids.map((id) => ({ id, size: 10 })));
      expect(followed.totals().objects).toBeLessThan(3_000);
      empty();
      expect(followed.totals()).toMatchObject({ objects: 3_000, bytes: 30_000 });
    }
    // Made new from the directory, in memory, where it cannot be opened.
    unlinkSync(full.layout.index);
    const writer = full.writer();
    writer.put(sha256('x'), Buffer.from('x'));
    writer.close();
    disk.fill();
    await using standIn = openIndex(full);
    await standIn.settled;
    expect(standIn.totals().objects).toBe(1);
  });
});
