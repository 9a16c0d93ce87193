import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import type { DirectoryEntry } from '../dataset/entry.ts';
import { freeze, getxattr, mount, thaw, xfsShutdown } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { attachLoop, loopDevicesOf } from './loop.ts';
import { cloneWorkspace, mountClone, thawLeftover } from './snapshot.ts';
import { cleanLeftovers, unmount } from './unmount.ts';
import {
  createWorkspaceImage,
  growWorkspace,
  growWorkspaceImage,
  MIN_WORKSPACE_BYTES,
  mountWorkspace,
  newWorkspaceBytes,
  workspaceUsage,
} from './workspace.ts';
import { createXfsTemplates } from './xfs-template.ts';

const MIB = 2 ** 20;
const root: DirectoryEntry = {
  type: 'directory',
  path: '' as ByteString,
  mode: 0o1775,
  uid: 12,
  gid: 34,
  mtimeSeconds: 1_000_000_000,
  mtimeNanos: 123_456_789,
  xattrs: [{ name: bytesOf('user.label'), value: Buffer.from('x') }],
};

let dir: string;
let at: string;
let file: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder workspace-'));
  at = join(dir, 'at');
  mkdirSync(at);
  file = join(dir, 'volume.xfs');
});

afterEach(async () => {
  await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
});

/** Puts a filesystem with reflink under `cache/`, as a node's disk would be, and gives that directory. */
async function reflinkCache(): Promise<string> {
  const cache = join(dir, 'cache');
  mkdirSync(cache);
  const disk = join(dir, 'disk.xfs');
  writeFileSync(disk, '');
  truncateSync(disk, 2048 * MIB);
  execFileSync('mkfs.xfs', ['-q', disk]);
  using loop = await attachLoop({ file: disk, readOnly: false });
  mount({ source: loop.path, target: cache, type: 'xfs' });
  return cache;
}

async function makeWorkspace(capacity = MIN_WORKSPACE_BYTES) {
  await createWorkspaceImage({ file, capacity });
  return mountWorkspace({ file, at, root });
}

function allocated(path: string): number {
  return statSync(path).blocks * 512;
}

describe.skipIf(!canMount)('a workspace', () => {
  it('costs little disk before it holds something, and has the attributes of the tree below', async () => {
    const { upper, work, directIo } = await makeWorkspace();
    expect(statSync(file).size).toBe(MIN_WORKSPACE_BYTES);
    expect(allocated(file)).toBeLessThan(4 * MIB);
    expect(readdirSync(at).sort()).toEqual(['upper', 'work']);
    const status = statSync(upper, { bigint: true });
    expect(status).toMatchObject({ mode: 0o41775n, uid: 12n, gid: 34n, mtimeNs: 1_000_000_000_123_456_789n });
    expect(getxattr(upper, 'user.label')).toEqual(Buffer.from('x'));
    expect(statSync(work).isDirectory()).toBe(true);
    expect(directIo).toBe(true);
  });

  it('keeps what was written, and its root as it was changed, over unmount and mount', async () => {
    const { upper } = await makeWorkspace();
    writeFileSync(join(upper, 'kept'), 'kept');
    execFileSync('chmod', ['700', upper]);
    await unmount(at);
    expect(loopDevicesOf(file)).toEqual([]);
    await mountWorkspace({ file, at, root });
    expect(readFileSync(join(upper, 'kept'), 'utf8')).toBe('kept');
    expect(statSync(upper).mode & 0o7777).toBe(0o700);
    expect(await mountWorkspace({ file, at, root })).toMatchObject({ upper });
    expect(loopDevicesOf(file)).toHaveLength(1);
  });

  it('ends at its capacity with ENOSPC, and gives disk space back when files are deleted', async () => {
    const { upper } = await makeWorkspace();
    const big = join(upper, 'big');
    const fd = openSync(big, 'w');
    const block = Buffer.alloc(4 * MIB, 'x');
    expect(() => {
      for (let i = 0; i < 100; i += 1) writeSync(fd, block);
    }).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    closeSync(fd);
    const full = workspaceUsage(at);
    expect(full.availableBytes).toBeLessThan(4 * MIB);
    expect(full.totalBytes).toBeLessThanOrEqual(MIN_WORKSPACE_BYTES);
    execFileSync('sync', ['-f', at]);
    expect(allocated(file)).toBeGreaterThan(200 * MIB);
    unlinkSync(big);
    // XFS frees in the background.
    for (let i = 0; allocated(file) > 120 * MIB || workspaceUsage(at).availableBytes < 150 * MIB; i += 1) {
      if (i === 100) throw new Error(`still ${allocated(file)} bytes`);
      execFileSync('sync', ['-f', at]);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });

  it('grows while it is used, and after a growth that was cut short', async () => {
    const { upper } = await makeWorkspace();
    const held = openSync(join(upper, 'open'), 'w');
    const before = workspaceUsage(at).totalBytes;
    expect(await growWorkspace({ file, at, capacity: 800 * MIB })).toBe(800 * MIB);
    expect(workspaceUsage(at).totalBytes - before).toBeGreaterThan(480 * MIB);
    writeSync(held, 'still');
    closeSync(held);
    expect(await growWorkspace({ file, at, capacity: 400 * MIB })).toBe(800 * MIB);
    await unmount(at);
    growWorkspaceImage({ file, capacity: 1000 * MIB });
    await mountWorkspace({ file, at, root });
    expect(workspaceUsage(at).totalBytes).toBeGreaterThan(900 * MIB);
    expect(readFileSync(join(upper, 'open'), 'utf8')).toBe('still');
  });

  it('is refused below what XFS needs, in words that say how much that is', async () => {
    await expect(createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES - 1 })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('300 MiB'),
    });
    expect(existsSync(file)).toBe(false);
  });

  it('takes no more of the disk at first than is taken from the room', async () => {
    const capacity = 400 * MIB;
    await makeWorkspace(capacity);
    execFileSync('sync', ['-f', at]);
    const taken = allocated(file);
    expect(taken).toBeLessThanOrEqual(newWorkspaceBytes(capacity));
    // The log alone is 64 MiB.
    expect(newWorkspaceBytes(capacity)).toBeLessThan(8 * MIB);
  });

  it('is there whole or not at all', async () => {
    writeFileSync(`${file}.new`, 'left by a crash');
    await createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES });
    expect(existsSync(`${file}.new`)).toBe(false);
    await expect(createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES })).rejects.toMatchObject({
      kind: 'conflict',
    });
  });

  it('that is made after another of its size is a filesystem of its own, without a process to make it', async () => {
    const templates = createXfsTemplates();
    const capacity = 400 * MIB;
    await createWorkspaceImage({ file, capacity, templates });
    const path = process.env.PATH;
    const others = ['second', 'third'].map((name) => join(dir, name));
    try {
      // There is no mkfs.xfs in it.
      process.env.PATH = dir;
      writeFileSync(join(dir, 'mkfs.xfs'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
      for (const other of others) await createWorkspaceImage({ file: other, capacity, templates });
      await expect(createWorkspaceImage({ file: `${file}.no`, capacity: 2 * capacity, templates })).rejects.toThrow();
    } finally {
      process.env.PATH = path;
    }
    const env = { ...process.env, PATH: `${path}:/usr/sbin:/sbin` };
    const files = [file, ...others];
    for (const one of files) execFileSync('xfs_repair', ['-n', one], { env, stdio: 'pipe' });
    expect(allocated(others[0]!)).toBeLessThan(MIB);
    for (const one of files) {
      mkdirSync(`${one}.at`);
      const { upper } = await mountWorkspace({ file: one, at: `${one}.at`, root });
      writeFileSync(join(upper, 'name'), one);
    }
    expect(await growWorkspace({ file: others[0]!, at: `${others[0]}.at`, capacity: 900 * MIB })).toBe(900 * MIB);
    // As when the power goes: the next mount replays the log.
    execFileSync('sync', ['-f', `${others[1]}.at`]);
    const fd = openSync(`${others[1]}.at`, 'r');
    xfsShutdown(fd);
    closeSync(fd);
    for (const one of files) {
      await unmount(`${one}.at`);
      if (one !== others[1]) execFileSync('xfs_repair', ['-n', one], { env, stdio: 'pipe' });
      const { upper } = await mountWorkspace({ file: one, at: `${one}.at`, root });
      expect(readFileSync(join(upper, 'name'), 'utf8')).toBe(one);
    }
  });

  it('can take its disk space at once', async () => {
    await createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES, reserve: true });
    expect(allocated(file)).toBeGreaterThanOrEqual(MIN_WORKSPACE_BYTES);
  });

  it('that is still in use after it was detached comes back as the same filesystem', async () => {
    const { upper } = await makeWorkspace();
    const held = openSync(join(upper, 'held'), 'w');
    expect(await unmount(at)).toMatchObject({ detached: true });
    await mountWorkspace({ file, at, root });
    writeSync(held, 'written through the old mount');
    expect(readFileSync(join(upper, 'held'), 'utf8')).toBe('written through the old mount');
    closeSync(held);
    expect(loopDevicesOf(file)).toHaveLength(1);
  });
});

describe.skipIf(!canMount)('a snapshot of a live workspace', () => {
  it('shares its blocks where the cache has reflink, and holds what was written before', async () => {
    const cache = await reflinkCache();
    file = join(cache, 'volume.xfs');
    const { upper } = await makeWorkspace();
    writeFileSync(join(upper, 'before'), Buffer.alloc(20 * MIB, 'b'));
    const writer = spawn('sh', ['-c', `i=0; while :; do i=$((i+1)); echo $i > '${upper}'/live.$((i%50)); done`]);
    const clone = join(cache, 'clone.xfs');
    const result = await cloneWorkspace({ file, at, clone });
    expect(result).toMatchObject({ method: 'reflink', bytesCopied: 0 });
    expect(result.pauseMilliseconds).toBeGreaterThan(0);
    writeFileSync(join(upper, 'after'), '');
    writer.kill('SIGKILL');
    await once(writer, 'exit');
    const seen = join(dir, 'clone');
    mkdirSync(seen);
    const clonedUpper = await mountClone({ clone, at: seen });
    expect(readFileSync(join(clonedUpper, 'before')).equals(Buffer.alloc(20 * MIB, 'b'))).toBe(true);
    expect(existsSync(join(clonedUpper, 'after'))).toBe(false);
    expect(existsSync(join(upper, 'after'))).toBe(true);
    await unmount(seen);
    expect(loopDevicesOf(clone)).toEqual([]);
  });

  it('copies where the cache has no reflink, holes left out, and says so', async () => {
    const { upper } = await makeWorkspace();
    writeFileSync(join(upper, 'before'), 'before');
    const clone = join(dir, 'clone.xfs');
    const result = await cloneWorkspace({ file, at, clone });
    // The disk of the test decides; on one without reflink this is the copy.
    if (result.method === 'copy') {
      expect(result.bytesCopied).toBeGreaterThan(6);
      expect(result.bytesCopied).toBeLessThan(100 * MIB);
    }
    expect(statSync(clone).size).toBe(statSync(file).size);
    const seen = join(dir, 'clone');
    mkdirSync(seen);
    expect(readFileSync(join(await mountClone({ clone, at: seen }), 'before'), 'utf8')).toBe('before');
  });

  it('thaws when it takes too long or is given up, and leaves no clone', async () => {
    const { upper } = await makeWorkspace();
    writeFileSync(join(upper, 'big'), Buffer.alloc(150 * MIB, 'x'));
    const clone = join(dir, 'clone.xfs');
    const slow = cloneWorkspace({ file, at, clone, longestPause: 1 });
    const outcome = await slow.catch((error: Error) => error);
    // On a disk with reflink nothing is too slow.
    if (outcome instanceof Error) {
      expect(outcome).toMatchObject({ kind: 'unavailable', message: expect.stringContaining('thawed') });
      expect(existsSync(clone)).toBe(false);
    } else unlinkSync(clone);
    writeFileSync(join(upper, 'again'), 'not frozen');
    await expect(cloneWorkspace({ file, at, clone, signal: AbortSignal.abort() })).rejects.toThrow('aborted');
    expect(existsSync(clone)).toBe(false);
    writeFileSync(join(upper, 'again'), 'not frozen');
  });

  it('does not leave writers waiting when the process that froze it is killed', async () => {
    const { upper } = await makeWorkspace();
    // The second process holds the filesystem frozen for ever, as one does that is killed in the worst moment.
    const program = `
      import { freeze } from ${JSON.stringify(join(import.meta.dirname, '../system/calls.ts'))};
      import * as calls from ${JSON.stringify(join(import.meta.dirname, 'snapshot.ts'))};
      import { openSync, rmSync } from 'node:fs';
      const options = { file: ${JSON.stringify(file)}, at: ${JSON.stringify(at)}, clone: ${JSON.stringify(join(dir, 'clone'))} };
      // Again and again: a clone may be done before we look, and is refused while we look.
      const work = async () => {
        for (;;) {
          rmSync(options.clone, { force: true });
          await calls.cloneWorkspace(options).catch(() => {});
        }
      };
      work();
      // As soon as another freeze is refused, the first one stands.
      const fd = openSync(${JSON.stringify(at)}, 'r');
      for (;;) {
        try { await freeze(fd); calls.thawLeftover(${JSON.stringify(at)}); } catch (error) { if (error.code === 'EBUSY') break; }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      process.kill(process.pid, 'SIGKILL');`;
    writeFileSync(join(upper, 'big'), Buffer.alloc(200 * MIB, 'x'));
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' });
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect(signal).toBe('SIGKILL');
    const touched = spawnSync('touch', [join(upper, 'touched')], { timeout: 10_000 });
    expect(touched.status).toBe(0);
  });

  it('is refused while another has it frozen; what a crash left frozen is thawed at the next start', async () => {
    const { upper } = await makeWorkspace();
    const fd = openSync(at, 'r');
    await freeze(fd);
    const clone = join(dir, 'clone.xfs');
    await expect(cloneWorkspace({ file, at, clone })).rejects.toMatchObject({ kind: 'conflict' });
    expect(thawLeftover(at)).toBe(true);
    expect(thawLeftover(at)).toBe(false);
    expect(() => thaw(fd)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    closeSync(fd);
    writeFileSync(join(upper, 'f'), '');
  });
});
