import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { type Cache, openCache } from './cache.ts';
import type { Placed } from './object-writer.ts';

let directory: string;
const opened: Cache[] = [];

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'larder-cache-')), 'cache');
});
afterEach(async () => {
  for (const cache of opened.splice(0)) await cache.close();
  rmSync(join(directory, '..'), { recursive: true, force: true });
});

async function open(bootId?: string): Promise<Cache> {
  const cache = await openCache({ directory, bootId });
  opened.push(cache);
  return cache;
}

async function reopen(bootId?: string): Promise<Cache> {
  await opened.pop()?.close();
  return open(bootId);
}

function put(cache: Cache, ...texts: string[]): Digest[] {
  const writer = cache.writer();
  const ids = texts.map((text) => {
    writer.put(sha256(text), Buffer.from(text));
    return sha256(text);
  });
  writer.close();
  return ids;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);
}

describe('a cache', () => {
  it('shows an object only when its batch is flushed, whole, read-only, under its content id', async () => {
    const cache = await open();
    const seen: Placed[] = [];
    cache.onPlaced((placed) => seen.push(...placed));
    const writer = cache.writer();
    const id = sha256('some bytes');
    writer.put(id, Buffer.from('some bytes'));
    expect(writer.isPending(id)).toBe(true);
    expect(cache.has(id)).toBe(false);
    writer.flush();
    expect(cache.has(id)).toBe(true);
    expect(readFileSync(cache.objectPath(id), 'utf8')).toBe('some bytes');
    expect(statSync(cache.objectPath(id)).mode & 0o7777).toBe(0o444);
    expect(seen).toEqual([{ id, size: 10 }]);
    writer.close();
    expect(filesBelow(cache.layout.incoming)).toEqual([]);
  });

  it('keeps holes as holes', async () => {
    const cache = await open();
    const writer = cache.writer();
    const id = sha256('a name for the test');
    const file = writer.begin(id, 26);
    file.write(Buffer.from('end of the second mebibyte'), 2 * 1024 * 1024);
    file.finish(64 * 1024 * 1024);
    writer.close();
    const { size, blocks } = statSync(cache.objectPath(id));
    expect(size).toBe(64 * 1024 * 1024);
    expect(blocks * 512).toBeLessThan(1024 * 1024);
  });

  it('gives the second name to the same inode, as often as asked', async () => {
    const cache = await open();
    const [id] = put(cache, 'late');
    cache.ensureLate(id!);
    cache.ensureLate(id!);
    const late = join(cache.layout.late, id!.slice(0, 2), id!);
    expect(statSync(late).ino).toBe(statSync(cache.objectPath(id!)).ino);
    expect(() => cache.ensureLate(sha256('not there'))).toThrow(/ENOENT/);
    expect(cache.remove(id!)).toBe(true);
    expect(cache.remove(id!)).toBe(false);
    expect(filesBelow(cache.layout.late)).toEqual([]);
  });

  it('keeps the inode of an object that two writers bring', async () => {
    const cache = await open();
    const one = cache.writer();
    const two = cache.writer();
    const id = sha256('twice');
    one.put(id, Buffer.from('twice'));
    two.put(id, Buffer.from('twice'));
    one.flush();
    const { ino } = statSync(cache.objectPath(id));
    two.flush();
    expect(statSync(cache.objectPath(id)).ino).toBe(ino);
    one.close();
    two.close();
    expect(filesBelow(cache.layout.incoming)).toEqual([]);
  });

  it('is refused to a second daemon with the pid of the first, and free when that one is killed', async () => {
    const module = new URL('./cache.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `const { openCache } = await import(${JSON.stringify(module)});
       await openCache({ directory: ${JSON.stringify(directory)} }); console.log('open'); setInterval(() => {}, 1000);`,
    ]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await expect(openCache({ directory })).rejects.toThrow(UnavailableError);
    await expect(openCache({ directory })).rejects.toThrow(new RegExp(`process ${child.pid}\\b`));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    await open();
  });

  it('sweeps what a killed daemon left half written', async () => {
    const cache = await open();
    mkdirSync(join(cache.layout.incoming, 'dead-0'));
    writeFileSync(join(cache.layout.incoming, 'dead-0', '17'), 'half');
    await reopen();
    expect(readdirSync(cache.layout.incoming)).toEqual([]);
  });

  it('removes a journal when the disk has what it names', async () => {
    const cache = await open();
    put(cache, 'a', 'b');
    await cache.sealed();
    expect(readdirSync(cache.layout.journal)).toEqual([]);
  });

  it('keeps objects of an unsealed journal after a kill, and drops them after a crash of the machine', async () => {
    const cache = await open('boot-1');
    const [safe] = put(cache, 'sealed');
    await cache.sealed();
    const writer = cache.writer();
    const fresh = sha256('fresh');
    writer.put(fresh, Buffer.from('fresh'));
    writer.flush();
    cache.ensureLate(fresh);
    const journal = readdirSync(cache.layout.journal).map((name) => join(cache.layout.journal, name));
    const saved = journal.map((path) => readFileSync(path));
    const again = await reopen('boot-1');
    expect(again.has(fresh)).toBe(true);
    await again.sealed();
    // As the crash leaves it: the journal is there, the objects too.
    journal.forEach((path, at) => {
      writeFileSync(path, saved[at]!);
    });
    const after = await reopen('boot-2');
    expect(after.has(fresh)).toBe(false);
    expect(filesBelow(after.layout.late)).toEqual([]);
    expect(after.has(safe!)).toBe(true);
    await after.sealed();
    expect(readdirSync(after.layout.journal)).toEqual([]);
  });

  it('says that the disk is full, and leaves nothing half written', async ({ skip }) => {
    if (process.env.LARDER_TEST_NAMESPACE !== '1' || process.getuid?.() !== 0) skip();
    mkdirSync(directory, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', directory]);
    try {
      const cache = await openCache({ directory });
      const writer = cache.writer();
      const large = Buffer.alloc(8 * 1024 * 1024, 1);
      expect(() => writer.put(sha256(large), large)).toThrow(/no room for object/);
      writer.close();
      expect(filesBelow(cache.layout.incoming)).toEqual([]);
      expect(filesBelow(cache.layout.objects)).toEqual([]);
      await cache.close();
    } finally {
      execFileSync('umount', [directory]);
    }
  });
});
