import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Bucket } from './bucket/bucket.ts';
import { directoryBucket } from './bucket/directory.ts';
import { sha256 } from './digest.ts';
import { canonicalJson, type Json } from './format/canonical-json.ts';
import { type Pin, pinsOfDataset, readPins } from './pins.ts';

let directory: string;
let bucket: Bucket;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'larder-pins-'));
  bucket = directoryBucket(directory);
});

afterEach(async () => {
  await bucket.close();
  rmSync(directory, { recursive: true });
});

const record = (key: string, value: Json) => bucket.put(key, Buffer.from(canonicalJson(value)));

async function all(): Promise<Pin[]> {
  const found: Pin[] = [];
  for await (const pin of readPins({ bucket })) found.push(pin);
  return found;
}

describe('records of volumes and snapshots', () => {
  it('pin the versions that they name, whatever else they hold', async () => {
    await record('volumes/vol-1', { version: sha256('a'), dataset: 'birds', name: 'pvc-1', later: { more: 1 } });
    await record('snapshots/snap-1', { version: sha256('b') });
    expect(await all()).toEqual([
      {
        kind: 'volume',
        key: 'volumes/vol-1',
        version: sha256('a'),
        versions: [sha256('a')],
        dataset: 'birds',
        name: 'pvc-1',
      },
      {
        kind: 'snapshot',
        key: 'snapshots/snap-1',
        version: sha256('b'),
        versions: [sha256('b')],
        dataset: undefined,
        name: undefined,
      },
    ]);
    expect((await pinsOfDataset({ bucket }, 'birds')).map(({ key }) => key)).toEqual(['volumes/vol-1']);
    expect(await pinsOfDataset({ bucket }, 'fish')).toEqual([]);
  });

  it('pin what their content is based on and mounted above too, each once', async () => {
    const [version, base, lower, old] = ['a', 'b', 'c', 'd'].map(sha256) as string[] as [
      string,
      string,
      string,
      string,
    ];
    await record('volumes/vol-1', { version, base, lower, kept: [old, base] });
    await record('volumes/vol-2', { version, base: version, lower: version });
    expect((await all()).map(({ versions }) => versions)).toEqual([[version, base, lower, old], [version]]);
  });

  it.each([{ base: 'x' }, { lower: 1 }, { kept: ['x'] }, { kept: { a: 1 } }] as Record<string, Json>[])(
    'are named where one of those is no version: %j',
    async (fault) => {
      await record('volumes/vol-1', { version: sha256('a'), ...fault });
      await expect(all()).rejects.toThrow(/volumes\/vol-1 .* does not tell which version/);
    },
  );

  it('are named where they do not tell what they pin', async () => {
    await record('volumes/vol-1', { dataset: 'birds' });
    await expect(all()).rejects.toThrow(/volumes\/vol-1 .* does not tell which version/);
  });

  it('are named where they are no records', async () => {
    await bucket.put('snapshots/snap-9', Buffer.from('{"version": 1'));
    await expect(all()).rejects.toThrow(/snapshots\/snap-9 is damaged: it is no JSON/);
  });
});
