import { closeSync, constants, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { canMount } from '../../test/support/privilege.ts';
import { unmount } from '../unmount.ts';
import type { Reopen, Resolve, RingFile } from './ring-file.ts';
import { mountRing, type RingServer, type RingServerOptions } from './ring-server.ts';
import { patternBytes, type Watched, watchedFile } from './testing/large-file.ts';
import { outputOf, type Running, start } from './testing/processes.ts';
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
  const processes: Running[] = [];
  afterEach(async () => {
    for (const { child } of processes.splice(0)) child.kill('SIGKILL');
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

  function cat(path: string): Running {
    const running = start('cat', [path]);
    processes.push(running);
    return running;
  }

  /** A read that the page cache has no part in. */
  async function readDirect(path: string): Promise<Buffer> {
    return await readFile(path, { flag: constants.O_RDONLY | constants.O_DIRECT });
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

  it('is one file for all mounts that have it, and for all names: what one has read, the others find in the page cache', async () => {
    const { rig, mounted, given, server } = await stage({ linger: 60_000 });
    const second = await rig.overlay('second');
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    const reads = given[0]!.reads.length;
    expect(await readFile(`${mounted}/same`)).toEqual(large);
    expect(await readFile(`${second}/large`)).toEqual(large);
    expect(given).toHaveLength(1);
    expect(given[0]!.reads.length).toBe(reads);
    expect(server.counters()).toMatchObject({ fileNodes: 1, opens: 3 });
  });

  it('fails one read with EIO where its bytes cannot be had, never with others, and gives them at the next try', async () => {
    let away = true;
    const { mounted, server } = await stage({
      prepare: (file) => {
        file.before = () => {
          if (away) throw new Error('the bucket is away');
        };
      },
    });
    await expect(readFile(`${mounted}/large`)).rejects.toThrow('EIO');
    away = false;
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    expect(server.counters().readsFailed).toBeGreaterThan(0);
  });

  it('fails a read with EIO where the file gives too little', async () => {
    const failures: unknown[] = [];
    const { mounted } = await stage({
      onFailure: (_id, error) => failures.push(error),
      prepare: (file) => {
        file.before = () => {
          (file as { read: unknown }).read = async () => Buffer.alloc(1);
        };
      },
    });
    await readFile(`${mounted}/large`).catch(() => {});
    await expect(readFile(`${mounted}/large`)).rejects.toThrow('EIO');
    expect(String(failures[0])).toContain('gave 1');
  });

  it('ends a read at the deadline with EIO, once and not once for each try of the kernel, and calls it off', async () => {
    let stuck = true;
    const { mounted, given, server } = await stage({
      deadline: 500,
      prepare: (file) => {
        file.before = (_offset, signal) =>
          stuck && new Promise((_, failed) => signal.addEventListener('abort', failed));
      },
    });
    const began = performance.now();
    await expect(readFile(`${mounted}/large`)).rejects.toThrow('EIO');
    expect(performance.now() - began).toBeGreaterThan(490);
    expect(given[0]!.reads.every((read) => read.signal.aborted)).toBe(true);
    // The reading ahead ended, and the kernel asked for the first page once more: that one did not wait.
    expect(server.counters().readsExpired).toBeGreaterThan(given[0]!.reads.length);
    stuck = false;
    await sleep(1100);
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    expect(server.counters()).toMatchObject({ held: 0, watched: 0 });
  });

  it('lets a process be killed that waits for an open, for a read, or for a page that it has mapped', async () => {
    const never = (signal: AbortSignal) =>
      new Promise((_, failed) => signal.addEventListener('abort', () => failed(signal.reason)));
    const { mounted, server } = await stage({
      prepare: (file) => {
        file.before = (_offset, signal) => never(signal);
      },
    });
    const mapping = `import mmap,os;m=mmap.mmap(os.open("${mounted}/large",os.O_RDONLY),0,prot=mmap.PROT_READ);m[2000000]`;
    for (const begin of [() => cat(`${mounted}/large`), () => start('python3', ['-c', mapping])]) {
      const before = server.counters().held;
      const waiting = begin();
      processes.push(waiting);
      await expect.poll(() => server.counters().held, { timeout: 10_000, interval: 5 }).toBeGreaterThan(before);
      waiting.child.kill('SIGKILL');
      expect(await waiting.ended).toBe('SIGKILL');
    }
    // Directly: the request is the process's own, and ends with it.
    const { held } = server.counters();
    const direct = start('dd', [`if=${mounted}/other`, 'iflag=direct', 'bs=4096', 'of=/dev/null']);
    processes.push(direct);
    await expect.poll(() => server.counters().held, { timeout: 10_000, interval: 5 }).toBeGreaterThan(held);
    direct.child.kill('SIGKILL');
    expect(await direct.ended).toBe('SIGKILL');
    await expect.poll(() => server.counters().held, { timeout: 10_000 }).toBe(held);
  });

  it('is closed when it was not open for a while, and comes again when it is opened', async () => {
    const { mounted, given, reopened, server } = await stage({ linger: 300 });
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    await expect.poll(() => given[0]!.closed, { timeout: 15_000 }).toBe(1);
    expect(server.counters()).toMatchObject({ files: 0 });
    expect(await readDirect(`${mounted}/large`)).toEqual(large);
    // Unless the kernel dropped its caches in between, and had to look it up again.
    expect(reopened.length + server.counters().rings).toBe(2);
    expect(given).toHaveLength(2);
    expect(given[1]!.closed).toBe(0);
  });

  it('is given up when no mount knows it any more', async () => {
    const { rig, mounted, given, server } = await stage({ linger: 100 });
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    // The kernel keeps the inode until the close, which goes its own way, is answered.
    await expect.poll(() => given[0]!.closed, { timeout: 10_000 }).toBe(1);
    await unmount(mounted);
    // Has the kernel let go of names that nobody uses.
    await outputOf(start('mount', ['-i', '-o', 'remount,ro', rig.ring]));
    await expect.poll(() => server.counters().fileNodes, { timeout: 5000 }).toBe(0);
    expect(given[0]!.closed).toBe(1);
  });

  it('is passed through to the whole file once there is one, and not before the last open that was not is closed', async () => {
    const { rig, mounted, given, server } = await stage();
    const path = join(rig.root, 'whole');
    writeFileSync(path, large);
    const early = await open(`${mounted}/large`);
    expect(await readAt(early, 100, 100)).toEqual(large.subarray(100, 200));
    given[0]!.path = path;
    const beside = await open(`${mounted}/large`);
    expect(server.counters()).toMatchObject({ opens: 2, passedOpens: 0 });
    await early.close();
    await beside.close();
    await expect
      .poll(() => server.counters().passedOpens > 0 || openOnce(`${mounted}/large`), { timeout: 5000 })
      .toBe(true);
    const before = server.counters();
    const reads = given[0]!.reads.length;
    const [first, second] = [await open(`${mounted}/large`), await open(`${mounted}/large`)];
    expect(await readAt(first, 0, SIZE)).toEqual(large);
    await first.close();
    expect(await readAt(second, 2 ** 20, 10)).toEqual(large.subarray(2 ** 20, 2 ** 20 + 10));
    expect(server.counters()).toMatchObject({ opens: before.opens + 2, passedOpens: before.passedOpens + 2 });
    expect(given[0]!.reads.length).toBe(reads);
    // Evicted while it is open: who has it open reads on, and who comes later is served by the ring again.
    rmSync(path);
    given[0]!.path = undefined;
    expect(await readAt(second, SIZE - 10, 10)).toEqual(large.subarray(SIZE - 10));
    await second.close();
    await expect.poll(() => readDirect(`${mounted}/large`), { timeout: 5000 }).toEqual(large);
    expect(server.counters().readsFailed).toBe(0);
  });

  async function openOnce(path: string): Promise<false> {
    await (await open(path)).close();
    return false;
  }

  it('is never passed through to a file of another size, nor where that is switched off', async () => {
    for (const [passthrough, size] of [
      [true, SIZE - 1],
      [false, SIZE],
    ] as const) {
      const { rig, mounted, server } = await stage({
        passthrough,
        prepare: (file) => {
          file.path = join(rig0.root, 'whole');
        },
      });
      const rig0 = rig;
      writeFileSync(join(rig.root, 'whole'), large.subarray(0, size));
      expect(await readFile(`${mounted}/large`)).toEqual(large);
      expect(server.counters().passedOpens).toBe(0);
      expect(server.settled.passthrough).toBe(passthrough);
    }
  });

  it('lies on a file system that another overlay can be mounted on only where nothing is passed through', async () => {
    for (const passthrough of [true, false]) {
      const { rig, mounted } = await stage({ passthrough });
      const [upper, above] = [join(rig.root, 'upper'), join(rig.root, 'above')];
      for (const directory of [upper, above]) mkdirSync(directory);
      const outer = start('mount', ['-i', '-t', 'overlay', '-o', `lowerdir=${mounted}:${upper}`, 'outer', above]);
      processes.push(outer);
      expect((await outer.ended) === 0).toBe(!passthrough);
      if (passthrough) continue;
      expect(await readFile(`${above}/large`)).toEqual(large);
      await unmount(above);
    }
  });

  it('is answered from its blocks by the reading thread, as far as they are there, also while the main thread is busy', async () => {
    const block = 64 * 1024;
    const present = new Uint8Array(new SharedArrayBuffer(Math.ceil(SIZE / block / 8)));
    const rigs: string[] = [];
    const { rig, mounted, given, server } = await stage({
      linger: 300,
      prepare: (file) => {
        const path = join(rigs[0] ?? '/tmp', `blocks-${process.pid}`);
        writeFileSync(path, large);
        const fd = openSync(path, 'r');
        rmSync(path);
        Object.assign(file, { local: { fd, block, present: present.buffer } });
        const { close } = file;
        file.close = () => {
          closeSync(fd);
          close();
        };
      },
    });
    rigs.push(rig.root);
    for (let index = 0; index * block < SIZE; index += 1) if (index !== 5) present[index >> 3]! |= 1 << (index & 7);
    expect(await readFile(`${mounted}/large`)).toEqual(large);
    const { blockReads, blockBytes, reads } = server.counters();
    expect(blockReads).toBeGreaterThan(0);
    expect(blockBytes).toBeGreaterThan(SIZE / 4);
    expect(reads).toBeGreaterThan(0);
    expect(given[0]!.reads.every(({ offset, length }) => offset < 6 * block && offset + length > 5 * block)).toBe(true);
    present[0]! |= 1 << 5;
    const direct = start('dd', [`if=${mounted}/large`, 'iflag=direct', 'bs=64k', 'of=/dev/null', 'status=none']);
    processes.push(direct);
    await expect.poll(() => server.counters().opens).toBe(2);
    const until = performance.now() + 300;
    while (performance.now() < until);
    expect(await direct.ended).toBe(0);
    expect(server.counters().reads).toBe(reads);
    await expect.poll(() => given[0]!.closed, { timeout: 10_000 }).toBe(1);
  });
});
