import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import type { Entry } from '../dataset/entry.ts';
import { editManifest } from '../dataset/manifest.ts';
import { comparePaths } from '../dataset/path.ts';
import { initRepository } from '../dataset/repository.ts';
import { type BaseTree, baseTree, SubtreeCursor } from './base-tree.ts';
import { memoryBase } from './tree.fixture.ts';

const about = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
const entries: Entry[] = [{ type: 'directory', path: '' as ByteString, ...about }];
for (let i = 0; i < 60; i += 1) {
  entries.push({ type: 'directory', path: bytesOf(`dir ${i}`), ...about });
  for (let j = 0; j < 100; j += 1) {
    const path = bytesOf(`dir ${i}/é ${j}`);
    const content = { kind: 'inline', bytes: Buffer.from(`${i}`) } as const;
    const file: Entry = { type: 'file', path, ...about, size: content.bytes.length, content };
    entries.push(j < 2 && i % 20 === 0 ? { ...file, link: bytesOf(`dir ${i}/é 0`) } : file);
  }
}
entries.sort((a, b) => comparePaths(a.path, b.path));

let dir: string;
let base: BaseTree;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'larder-base-'));
  const repository = await initRepository(join(dir, 'repository'));
  async function* puts() {
    yield entries.map((entry) => ({ kind: 'put' as const, entry }));
  }
  base = baseTree(repository, (await editManifest(repository, undefined, puts())).root);
});

afterAll(() => rmSync(dir, { recursive: true }));

async function listed(batches: AsyncIterable<readonly Entry[]>): Promise<string[]> {
  const paths: string[] = [];
  for await (const batch of batches) paths.push(...batch.map((entry) => entry.path));
  return paths;
}

describe('the version below a workspace', () => {
  it('gives every entry by its path, and none that it has not', async () => {
    for (const entry of entries) expect(await base.find(entry.path)).toEqual(entry);
    for (const path of ['0', 'dir', 'dir 0/', 'dir 1/é', 'dir 1/é 0/x', 'dir 1/é 100', 'dir 9z', 'zzz']) {
      expect(await base.find(bytesOf(path))).toBeUndefined();
    }
  });

  it('gives a directory with all below it, and its hard-link groups', async () => {
    const memory = memoryBase(entries);
    for (const path of ['', 'dir 1', 'dir 59', 'dir 7/é 3', 'absent']) {
      expect(await listed(base.subtree(bytesOf(path)))).toEqual(await listed(memory.subtree(bytesOf(path))));
    }
    expect(await base.linkGroups()).toEqual(await memory.linkGroups());
    expect((await base.linkGroups()).size).toBe(3);
  });

  it('is gone through one by one, with a look at the next', async () => {
    await using cursor = new SubtreeCursor(base, bytesOf('dir 3'));
    expect((await cursor.peek())!.path).toBe('dir 3');
    expect((await cursor.peek())!.path).toBe('dir 3');
    let count = 0;
    for (; (await cursor.peek()) !== undefined; cursor.advance()) count += 1;
    expect(count).toBe(101);
    expect(await cursor.peek()).toBeUndefined();
  });
});
