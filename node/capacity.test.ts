import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiskFullError } from '../dataset/errors.ts';
import { importDirectory } from '../dataset/import.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import type { Version } from '../dataset/version.ts';
import { canMount } from '../test/support/privilege.ts';
import { type SmallDisk, smallDisk } from '../test/support/small-disk.ts';
import { silentLogger } from './log.ts';
import { type Node, type NodeOptions, openNode } from './node.ts';

const MIB = 2 ** 20;
const FILE = 128 * 1024;
const FILES = 160;

let stack: AsyncDisposableStack;
let folder: string;
let repository: Repository;

/** Name to digest. */
type Sums = ReadonlyMap<string, string>;

describe.skipIf(!canMount)('a node whose cache is smaller than what it reads', () => {
  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    folder = mkdtempSync(join(tmpdir(), 'larder-capacity-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    process.env.LARDER_STATE = join(folder, 'state');
    repository = await initRepository(join(folder, 'repository'));
    stack.defer(() => repository.bucket.close());
  });
  afterEach(() => stack.disposeAsync());

  async function dataset(name: string, files = FILES): Promise<{ version: Version; sums: Sums }> {
    const source = join(folder, `source-${name}`);
    mkdirSync(source);
    const sums = new Map<string, string>();
    for (let at = 0; at < files; at += 1) {
      const bytes = randomBytes(FILE);
      writeFileSync(join(source, `file-${at}`), bytes);
      sums.set(`file-${at}`, createHash('sha256').update(bytes).digest('hex'));
    }
    const about = { repository, source, dataset: name, branch: 'main', message: '', author: 'a test' };
    const { version } = await importDirectory(about);
    rmSync(source, { recursive: true });
    return { version, sums };
  }

  async function start(options: Partial<NodeOptions> = {}): Promise<Node> {
    const cache = join(folder, 'cache');
    const node = await openNode({
      runtime: join(folder, 'run'),
      cache,
      deadline: 20_000,
      log: silentLogger,
      ...options,
    });
    stack.defer(() => node.close());
    return node;
  }

  async function mount(node: Node, name: string, { id }: Version): Promise<string> {
    const stagingPath = join(folder, `at-${name}`);
    const { location } = repository;
    const kind = 'pinned';
    await node.volumes.stage({ volume: name, dataset: name, version: id, kind, stagingPath, repository: location });
    stack.defer(async () => {
      await node.volumes.unstage(name, stagingPath);
    });
    return stagingPath;
  }

  /** Reads every file once, in random order. @returns how many the kernel opened without the daemon, and what was wrong */
  async function epoch(node: Node, at: string, sums: Sums): Promise<{ native: number; wrong: string[] }> {
    const wrong: string[] = [];
    let native = 0;
    for (const name of [...sums.keys()].sort(() => Math.random() - 0.5)) {
      const asked = () => {
        const { rings, opens } = node.ring.server.counters();
        return rings + opens;
      };
      const before = asked();
      const bytes = await readFile(join(at, name));
      if (asked() === before) native += 1;
      if (createHash('sha256').update(bytes).digest('hex') !== sums.get(name)) wrong.push(name);
    }
    return { native, wrong };
  }

  const cachedIn = (node: Node): string[] =>
    readdirSync(node.cache.layout.objects, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort();

  it('opens half of a dataset twice its size natively in every epoch, always the same half', async () => {
    const { version, sums } = await dataset('twice');
    const node = await start();
    const at = await mount(node, 'twice', version);
    const others = node.capacity.stats().held;
    await node.capacity.setLimits({ limit: { bytes: others + 2 * MIB + (FILES / 2) * FILE }, minFree: { bytes: 0 } });
    expect(await epoch(node, at, sums)).toMatchObject({ wrong: [] });
    const cached = cachedIn(node);
    expect(cached.length).toBeGreaterThan(FILES * 0.4);
    expect(cached.length).toBeLessThan(FILES * 0.65);
    for (let again = 0; again < 2; again += 1) {
      const { native, wrong } = await epoch(node, at, sums);
      expect(wrong).toEqual([]);
      expect(native).toBeGreaterThanOrEqual(cached.length);
      expect(cachedIn(node)).toEqual(expect.arrayContaining(cached));
    }
    expect(node.capacity.stats().evictedObjects).toBe(0);
  }, 60_000);

  it('evicts what nothing has mounted for what is, and forgets it with its image', async () => {
    const [old, wanted] = [await dataset('old', 60), await dataset('wanted', 80)];
    const node = await start();
    const at = await mount(node, 'old', old.version);
    await epoch(node, at, old.sums);
    await node.volumes.unstage('old', at);
    await node.capacity.refresh();
    const others = node.capacity.stats().held - node.index.totals().held;
    await node.capacity.setLimits({ limit: { bytes: others + 4 * MIB + 90 * FILE }, minFree: { bytes: 0 } });
    const second = await mount(node, 'wanted', wanted.version);
    expect(await epoch(node, second, wanted.sums)).toMatchObject({ wrong: [] });
    // One or the other may have been streamed before there was room.
    const { native, wrong } = await epoch(node, second, wanted.sums);
    expect(wrong).toEqual([]);
    expect(native).toBeGreaterThanOrEqual(60);
    expect(node.known.get(wanted.version.id)).toBeDefined();
    await node.capacity.evict({});
    expect(node.known.get(old.version.id)).toBeUndefined();
    expect(existsSync(join(node.cache.layout.images, `${old.version.root}.erofs`))).toBe(false);
    expect(existsSync(join(node.cache.layout.images, `${wanted.version.root}.erofs`))).toBe(true);
    expect(cachedIn(node).length).toBeGreaterThanOrEqual(native);
  }, 60_000);

  describe('on a disk of its own', () => {
    let disk: SmallDisk;
    beforeEach(async () => {
      disk = stack.use(await smallDisk({ bytes: 160 * MIB }));
    });

    it('reads on when somebody else fills the disk, and fills its cache again when that has gone', async () => {
      const { version, sums } = await dataset('full');
      const names = [...sums.keys()];
      const part = (from: number, to: number) => new Map([...sums].slice(from, to));
      const node = await start({ cache: join(disk.directory, 'cache') });
      const at = await mount(node, 'full', version);
      for (const name of names.slice(0, 20)) await readFile(join(at, name));
      const empty = disk.fill();
      const before = cachedIn(node).length;
      const { wrong } = await epoch(node, at, part(0, 80));
      expect(wrong).toEqual([]);
      expect(cachedIn(node).length - before).toBeLessThan(80);
      // What the disk has left is looked at once a second only.
      await node.capacity.refresh();
      expect(node.capacity.stats().room).toBeLessThanOrEqual(0);
      empty();
      await node.capacity.refresh();
      expect(await epoch(node, at, sums)).toMatchObject({ wrong: [] });
      await until(() => cachedIn(node).length === FILES);
    }, 60_000);

    it('mounts on a full disk for cached files of what is mounted, and without any says what is in the way', async () => {
      const [first, second, third] = [
        await dataset('first', 20),
        await dataset('second', 20),
        await dataset('third', 20),
      ];
      const node = await start({ cache: join(disk.directory, 'cache') });
      const at = await mount(node, 'first', first.version);
      await epoch(node, at, first.sums);
      // The index is behind on a disk that takes nothing.
      await until(() => node.index.totals().objects === 20);
      const empty = disk.fill();
      const before = cachedIn(node).length;
      const other = await mount(node, 'second', second.version);
      expect(cachedIn(node).length).toBe(before - 1);
      expect(await epoch(node, other, second.sums)).toMatchObject({ wrong: [] });
      expect(await epoch(node, at, first.sums)).toMatchObject({ wrong: [] });
      await node.capacity.evict({ mounted: true });
      empty();
      disk.fill();
      const refused = mount(node, 'third', third.version);
      await expect(refused).rejects.toThrow(DiskFullError);
      await expect(refused).rejects.toThrow(/bytes free, and the image of version .* takes about/);
    }, 60_000);

    it('has its space back at once when cached files of a mounted version are evicted, and reads them again', async () => {
      const { version, sums } = await dataset('mounted');
      const node = await start({ cache: join(disk.directory, 'cache') });
      const at = await mount(node, 'mounted', version);
      await epoch(node, at, sums);
      const held = node.index.totals().bytes;
      expect(held).toBe(FILES * FILE);
      const kept = await open(join(at, 'file-0'));
      try {
        const free = disk.free();
        const { objects, freed } = await node.capacity.evict({ mounted: true });
        expect(objects).toBe(FILES);
        expect(freed).toBeGreaterThan(held * 0.95);
        expect(disk.free() - free).toBeGreaterThan(held * 0.95);
        const { buffer, bytesRead } = await kept.read(Buffer.alloc(FILE), 0, FILE, 0);
        expect(createHash('sha256').update(buffer.subarray(0, bytesRead)).digest('hex')).toBe(sums.get('file-0'));
      } finally {
        await kept.close();
      }
      expect(await epoch(node, at, sums)).toMatchObject({ wrong: [] });
      expect(cachedIn(node).length).toBe(FILES);
    }, 60_000);
  });
});

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come to pass within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
