import { closeSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { mount } from '../../system/calls.ts';
import { canMount } from '../../test/support/privilege.ts';
import { unmount } from '../unmount.ts';
import { connectionNumber } from './device.ts';
import type { Resolve } from './ring-file.ts';
import { mountRing, type RingServer } from './ring-server.ts';
import { outputOf, type Running, start, startScript, threadStates } from './testing/processes.ts';
import { createRig, type Rig, type RigFile, rigFile, storeObject } from './testing/rig.ts';

const contents = Array.from({ length: 8 }, (_, index) => Buffer.from(`content ${index} `.repeat(500 + index)));
const byId = new Map(contents.map((data) => [sha256(data) as string, data]));
const same = Buffer.from('all files of one content '.repeat(100));
byId.set(sha256(same), same);
const files: RigFile[] = [
  ...contents.map((data, index) => rigFile(`f${index}`, data)),
  ...Array.from({ length: 1000 }, (_, index) => rigFile(`same${index}`, same)),
];

interface Staged {
  readonly rig: Rig;
  readonly server: RingServer;
  readonly mounted: string;
  readonly resolved: string[];
}

describe.skipIf(!canMount)('a version mounted on the ring', () => {
  const cleanups: (() => Promise<void>)[] = [];
  const processes: Running[] = [];
  afterEach(async () => {
    for (const { child } of processes.splice(0)) child.kill('SIGKILL');
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  /** Mounts everything. `before` runs before each object is stored. */
  async function stage(
    options: { before?: (id: string, signal: AbortSignal) => Promise<unknown>; deadline?: number } = {},
  ): Promise<Staged> {
    const rig = await createRig(files);
    cleanups.push(() => rig.cleanup());
    const resolved: string[] = [];
    const resolve: Resolve = async (id, signal) => {
      resolved.push(id);
      await options.before?.(id, signal);
      const data = byId.get(id);
      if (!data) return 'absent';
      storeObject(rig.root, data);
      return 'ready';
    };
    const server = await mountRing(rig.ring, { resolve, deadline: options.deadline ?? 30_000 });
    cleanups.push(async () => {
      await server.release();
      closeSync(server.fd);
    });
    return { rig, server, mounted: await rig.overlay('version'), resolved };
  }

  function cat(...paths: string[]): Running {
    const running = start('cat', paths);
    processes.push(running);
    return running;
  }

  function read(directory: string, names: readonly string[], threads = 4): Running {
    const running = startScript('reader.ts', [directory, ...names], { UV_THREADPOOL_SIZE: String(threads) });
    processes.push(running);
    return running;
  }

  const untilRinging = (server: RingServer, count = 1) =>
    expect.poll(() => server.counters().held, { timeout: 10_000, interval: 5 }).toBe(count);

  it('fetches a file when it is opened, gives its bytes, and never asks for it again', async () => {
    const { mounted, resolved, server } = await stage();
    for (let round = 0; round < 3; round += 1) expect(await readFile(`${mounted}/f0`)).toEqual(contents[0]);
    expect(resolved).toEqual([sha256(contents[0]!)]);
    expect(server.counters()).toMatchObject({ rings: 1, ready: 1, held: 0, faults: 0 });
    expect(await stat(`${mounted}/f1`)).toMatchObject({ size: contents[1]!.length, mode: 0o100644 });
    expect(server.counters().rings).toBe(1);
  });

  it('reads what was already there without a ring', async () => {
    const { rig, mounted, resolved } = await stage();
    storeObject(rig.root, contents[2]!, ['objects']);
    expect(await readFile(`${mounted}/f2`)).toEqual(contents[2]);
    expect(resolved).toEqual([]);
  });

  it('asks once for 200 files of one content that are opened at the same time', async () => {
    const { promise, resolve: go } = Promise.withResolvers<void>();
    const { mounted, resolved, server } = await stage({ before: () => promise });
    const reader = read(mounted, ['same:200'], 200);
    await untilRinging(server, 200);
    go();
    const lines = (await outputOf(reader)).trim().split('\n');
    expect(lines).toHaveLength(200);
    expect(new Set(lines.map((line) => line.split(' ')[1]))).toEqual(new Set([sha256(same)]));
    expect(resolved).toEqual([sha256(same)]);
    expect(server.counters()).toMatchObject({ rings: 200, ready: 200, held: 0, resolving: 0, late: 0 });
  });

  it('asks once for one file that is opened 1,000 times at the same time', async () => {
    const { promise, resolve: go } = Promise.withResolvers<void>();
    const { mounted, resolved, server } = await stage({ before: () => promise });
    const names = Array.from({ length: 1000 }, () => 'f3');
    const reader = read(mounted, names, 1000);
    await expect.poll(() => threadStates(reader.pid).length, { timeout: 20_000 }).toBeGreaterThan(1000);
    await untilRinging(server);
    go();
    expect(await outputOf(reader)).toBe(`f3 ${sha256(contents[3]!)}\n`.repeat(1000));
    expect(resolved).toEqual([sha256(contents[3]!)]);
    expect(server.counters()).toMatchObject({ rings: 1, ready: 1 });
  });

  it('fails an open with EIO, never with "no such file", where the fetching fails, and gets it at the next try', async () => {
    let away = true;
    const { mounted, server } = await stage({
      before: async () => {
        if (away) throw new Error('the bucket is away');
      },
    });
    for (let round = 0; round < 2; round += 1) await expect(readFile(`${mounted}/f0`)).rejects.toThrow('EIO');
    away = false;
    expect(await readFile(`${mounted}/f0`)).toEqual(contents[0]);
    expect(server.counters()).toMatchObject({ rings: 3, failed: 2, ready: 1, faults: 2 });
  });

  it('fails an open with EIO of what nothing that is staged has, and reads it once it is there', async () => {
    const data = contents[0]!;
    byId.delete(sha256(data));
    try {
      const { rig, mounted, server } = await stage();
      await expect(readFile(`${mounted}/f0`)).rejects.toThrow('EIO');
      expect(server.counters()).toMatchObject({ absent: 1, faults: 1 });
      storeObject(rig.root, data, ['objects']);
      expect(await readFile(`${mounted}/f0`)).toEqual(data);
    } finally {
      byId.set(sha256(data), data);
    }
  });

  it('fails an open with EIO at the deadline, calls the fetching off, and gets it at the next try', async () => {
    const aborted: boolean[] = [];
    let slow = true;
    const { mounted, server } = await stage({
      deadline: 200,
      before: async (_id, signal) => {
        if (slow) await sleep(60_000, undefined, { signal }).catch(() => aborted.push(signal.aborted));
        signal.throwIfAborted();
      },
    });
    const began = performance.now();
    await expect(readFile(`${mounted}/f4`)).rejects.toThrow('EIO');
    expect(performance.now() - began).toBeGreaterThan(190);
    expect(performance.now() - began).toBeLessThan(5000);
    slow = false;
    expect(await readFile(`${mounted}/f4`)).toEqual(contents[4]);
    expect(aborted).toEqual([true]);
    expect(server.counters()).toMatchObject({ expired: 1, ready: 1, held: 0, resolving: 0 });
  });

  it('lets a waiting process be killed, also one that waits for what another waits for', async () => {
    const { mounted, server, rig } = await stage({
      before: (_id, signal) =>
        new Promise((_, failed) => signal.addEventListener('abort', () => failed(signal.reason))),
    });
    const second = await rig.overlay('second');
    const waiting = [cat(`${mounted}/same0`), cat(`${mounted}/same1`), cat(`${mounted}/same1`), cat(`${second}/same0`)];
    // Of the two that open one file, the second waits for the first in overlayfs itself.
    await untilRinging(server, 3);
    for (const { child, ended } of waiting.toReversed()) {
      const began = performance.now();
      child.kill('SIGKILL');
      expect(await ended).toBe('SIGKILL');
      expect(performance.now() - began).toBeLessThan(2000);
    }
    await expect.poll(() => server.counters()).toMatchObject({ held: 0, watched: 0, resolving: 0, resolves: 1 });
  });

  it('lets a waiting process be ended by the signals that ask for it, and by ones that dump core', async () => {
    const { mounted, server } = await stage({ before: (_id, signal) => sleep(60_000, undefined, { signal }) });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGABRT'] as const) {
      const { child, ended } = cat(`${mounted}/f5`);
      await untilRinging(server);
      child.kill(signal);
      expect(await ended).toBe(signal);
      await untilRinging(server, 0);
    }
  });

  it('gives EINTR to a program that handles a termination signal, so that its handler runs', async () => {
    const { mounted, server } = await stage({ before: (_id, signal) => sleep(60_000, undefined, { signal }) });
    const shell = start('bash', [
      '-c',
      `trap 'echo handled; exit 7' TERM; read -r line < ${mounted}/f5; echo "on: $?"`,
    ]);
    processes.push(shell);
    await untilRinging(server);
    shell.child.kill('SIGTERM');
    expect(await shell.ended).toBe(7);
    expect(shell.output()).toContain('handled');
    expect(server.counters()).toMatchObject({ interrupted: 1, faults: 1, held: 0 });
  });

  it('is not disturbed by a stop and a continuation, nor by signals that programs get all the time', async () => {
    const { promise, resolve: go } = Promise.withResolvers<void>();
    const { mounted, server } = await stage({ before: () => promise });
    const plain = cat(`${mounted}/f6`);
    const shell = start('bash', [
      '-c',
      `trap 'true' WINCH USR1 CHLD; read -r -n 9 line < ${mounted}/f7; echo "got $line"`,
    ]);
    processes.push(shell);
    await untilRinging(server, 2);
    for (const signal of ['SIGSTOP', 'SIGCONT'] as const) {
      plain.child.kill(signal);
      await sleep(50);
    }
    for (const signal of ['SIGWINCH', 'SIGUSR1', 'SIGCHLD'] as const) {
      shell.child.kill(signal);
      await sleep(50);
    }
    expect(server.counters()).toMatchObject({ held: 2, interrupted: 0 });
    go();
    expect(await plain.ended).toBe(0);
    expect(plain.output()).toBe(contents[6]!.toString());
    expect(await outputOf(shell)).toContain('got content 7');
    expect(server.counters()).toMatchObject({ ready: 2, watched: 0 });
  });

  it('can still be killed after a signal that was no reason to end', async () => {
    const { mounted, server } = await stage({ before: (_id, signal) => sleep(60_000, undefined, { signal }) });
    const { child, ended } = cat(`${mounted}/f6`);
    await untilRinging(server);
    child.kill('SIGSTOP');
    await expect.poll(() => server.counters().watched).toBe(1);
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
    expect(server.counters()).toMatchObject({ held: 0, watched: 0, interrupted: 1 });
  });

  it('keeps opens of other files of the same directory going while one waits', async () => {
    const { promise, resolve: go } = Promise.withResolvers<void>();
    const slow = sha256(contents[0]!);
    const { mounted, server } = await stage({ before: (id) => (id === slow ? promise : sleep(1)) });
    const waiting = cat(`${mounted}/f0`);
    await untilRinging(server);
    expect(await readFile(`${mounted}/f1`)).toEqual(contents[1]);
    expect(server.settled.parallel).toBe(true);
    go();
    expect(await waiting.ended).toBe(0);
  });

  it('answers for its directories while the main thread is busy', async () => {
    const { rig } = await stage();
    expect(await readdir(rig.ring)).toEqual(['fault', 'wait']);
    // Synchronous calls: without a thread that answers, the test would stand here for ever.
    for (const hex of ['00', 'ab', 'ab', 'ff']) expect(statSync(`${rig.ring}/wait/${hex}`).isDirectory()).toBe(true);
    expect(() => readFileSync(`${rig.ring}/wait/zz`)).toThrow('ENOENT');
  });

  it('leaves what is cached readable when it dies, and fails what is not with an error', async () => {
    const { mounted, server } = await stage({
      before: (id) => (id === sha256(contents[1]!) ? sleep(60_000) : sleep(0)),
    });
    expect(await readFile(`${mounted}/f0`)).toEqual(contents[0]);
    const waiting = cat(`${mounted}/f1`);
    await untilRinging(server);
    await server.release();
    cleanups.splice(1, 1);
    closeSync(server.fd);
    expect(await waiting.ended).toBe(1);
    expect(waiting.output()).toMatch(/Input\/output error|not connected|Software caused connection abort/);
    expect(await readFile(`${mounted}/f0`)).toEqual(contents[0]);
    await expect(readFile(`${mounted}/f2`)).rejects.toThrow(/EIO|ENOTCONN|ECONNABORTED/);
  });

  it('is healed by objects that arrive in objects/ when its ring is gone for good', async () => {
    const { rig, mounted, server } = await stage();
    await server.release();
    cleanups.splice(1, 1);
    closeSync(server.fd);
    await expect(readFile(`${mounted}/f2`)).rejects.toThrow(/ENOTCONN|EIO/);
    storeObject(rig.root, contents[2]!, ['objects']);
    expect(await readFile(`${mounted}/f2`)).toEqual(contents[2]);
  });

  it('ends, and with it every wait, when its connection is aborted from outside', async () => {
    const { rig, mounted, server } = await stage({ before: (_id, signal) => sleep(60_000, undefined, { signal }) });
    const waiting = cat(`${mounted}/f1`);
    await untilRinging(server);
    const control = join(rig.root, 'control');
    mkdirSync(control);
    mount({ source: 'fusectl', target: control, type: 'fusectl' });
    writeFileSync(join(control, String(connectionNumber(rig.ring)), 'abort'), '1');
    expect(await server.ended).toBe('aborted');
    expect(await waiting.ended).toBe(1);
  });

  it('leaks no request, no wait and no directory', async () => {
    const { rig, mounted, server } = await stage();
    const second = await rig.overlay('second');
    await outputOf(read(mounted, ['f:8', 'same:1000'], 16));
    await outputOf(read(second, ['same:1000'], 16));
    const counters = server.counters();
    expect(counters).toMatchObject({ held: 0, watched: 0, resolving: 0, failed: 0, faults: 0, late: 0 });
    expect(counters.answers).toBe(counters.requests);
    // The kernel keeps at most the last directory of each name, until it needs the memory.
    expect(counters.nodes).toBeLessThanOrEqual(256 + 16);
    await unmount(second);
    await unmount(mounted);
    await unmount(rig.ring);
    expect(await server.ended).toBe('unmounted');
    expect(threadStates(process.pid)).not.toContain('D');
  });
});
