import { closeSync } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { canMount } from '../../test/support/privilege.ts';
import type { Reopen, Resolve, RingFile } from './ring-file.ts';
import { mountRing, type RingServer, type RingServerOptions } from './ring-server.ts';
import { patternBytes, type Watched, watchedFile } from './testing/large-file.ts';
import { createRig, type Rig, rigFile, storeObject } from './testing/rig.ts';

const SIZE = 3 * 2 ** 20 + 1234;
const large = patternBytes(1, 0, SIZE);
const other = patternBytes(2, 0, 70_001);
const small = Buffer.from('a small one '.repeat(30));
const files = [rigFile('large', large), rigFile('same', large), rigFile('other', other), rigFile('small', small)];
const largeId = sha256(large);

interface Staged {
  readonly rig: Rig;
  readonly server: RingServer;
  readonly mounted: string;
  /** The files that the ring gave out, in turn. */
  readonly given: Watched[];
  readonly reopened: string[];
}

describe.skipIf(!canMount)('a file that the ring gives out itself', () => {
  const cleanups: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function stage(
    options: Partial<RingServerOptions> & { prepare?: (file: Watched) => unknown } = {},
  ): Promise<Staged> {
    const rig = await createRig(files);
    cleanups.push(() => rig.cleanup());
    const given: Watched[] = [];
    const reopened: string[] = [];
    const make = async (id: string): Promise<RingFile> => {
      const data = id === largeId ? large : other;
      const file = watchedFile(data.length, (offset, length) => data.subarray(offset, offset + length));
      given.push(file);
      await options.prepare?.(file);
      return file;
    };
    const resolve: Resolve = async (id) => {
      if (id !== sha256(small)) return make(id);
      storeObject(rig.root, small);
      return 'ready';
    };
    const reopen: Reopen = async (id) => {
      reopened.push(id);
      return make(id);
    };
    const server = await mountRing(rig.ring, { resolve, reopen, deadline: 30_000, ...options });
    cleanups.push(async () => {
      await server.release();
      closeSync(server.fd);
    });
    return { rig, server, mounted: await rig.overlay('version'), given, reopened };
  }

  async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  }

  it('is read through an overlay, whole and at any place, while small files beside it come as they do', async () => {
    const { mounted, given, server } = await stage();
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    expect(await readFile(`${mounted}/small`)).toEqual(small);
    expect(await readFile(`${mounted}/other`)).toEqual(other);
    const handle = await open(`${mounted}/large`);
    try {
      for (const [position, length] of [
        [0, 1],
        [SIZE - 5, 100],
        [SIZE, 10],
        [4095, 2],
        [2 ** 20 - 3, 70_000],
      ] as const)
        expect(await readAt(handle, position, length)).toEqual(large.subarray(position, position + length));
      expect((await handle.stat()).size).toBe(SIZE);
    } finally {
      await handle.close();
    }
    expect(given).toHaveLength(2);
    expect(server.counters()).toMatchObject({
      streamed: 2,
      ready: 1,
      opens: 3,
      readsFailed: 0,
      fileNodes: 2,
      files: 2,
    });
    expect(await stat(`${mounted}/large`)).toMatchObject({ size: SIZE, mode: 0o100644 });
  });
});
