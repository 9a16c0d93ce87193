import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { subscribe } from '../cache/events.ts';
import { objectPath } from '../cache/layout.ts';
import { bytesOf } from '../dataset/byte-string.ts';
import type { Digest } from '../dataset/digest.ts';
import { importDirectory } from '../dataset/import.ts';
import { findEntry } from '../dataset/manifest.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import type { Version } from '../dataset/version.ts';
import { startScript } from '../mount/fuse/testing/processes.ts';
import { type BreakingProxy, startBreakingProxy } from '../test/support/breaking-proxy.ts';
import { canMount } from '../test/support/privilege.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, startS3Server } from '../test/support/s3-server.ts';
import { silentLogger } from './log.ts';
import { type Node, type NodeOptions, openNode } from './node.ts';
import { runtimePaths } from './paths.ts';

const MIB = 2 ** 20;
const LARGE = 200 * MIB;

const run = promisify(execFile);
const world = new AsyncDisposableStack();
let stack: AsyncDisposableStack;
let folder: string;
let source: string;
let proxy: BreakingProxy;
let repository: Repository;
let location: string;
let version: Version;
let digest: string;

describe.skipIf(!canMount || !hasS3Server)('a mount of files that are not brought whole', () => {
  beforeAll(async () => {
    const server = world.use(await startS3Server());
    proxy = world.use(await startBreakingProxy(server.endpoint));
    const top = mkdtempSync(join(tmpdir(), 'larder-streaming-'));
    world.defer(() => rmSync(top, { recursive: true, force: true }));
    process.env.LARDER_STATE = join(top, 'state');
    source = join(top, 'source');
    mkdirSync(source);
    digest = writeRandom(join(source, 'large'), LARGE);
    for (let at = 0; at < 40; at += 1) writeRandom(join(source, `small-${at}`), 30_000);
    const direct = await server.location('data');
    repository = await initRepository(direct);
    world.defer(() => repository.bucket.close());
    const about = { repository, source, dataset: 'photos', branch: 'main', message: '', author: 'a test' };
    version = (await importDirectory(about)).version;
    location = proxy.location(direct);
  }, S3_SERVER_TIMEOUT);
  afterAll(() => world.disposeAsync());

  beforeEach(() => {
    stack = new AsyncDisposableStack();
    folder = mkdtempSync(join(tmpdir(), 'larder-streaming-node-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    proxy.plan = () => undefined;
  });
  afterEach(() => stack.disposeAsync());

  const mounted = (name: string) => join(folder, 'mounted', name);

  const openOne = (options: Partial<NodeOptions> = {}) =>
    openNode({
      runtime: join(folder, 'run'),
      cache: join(folder, 'cache'),
      deadline: 20_000,
      streamOver: MIB,
      log: silentLogger,
      ...options,
    });

  async function stage(node: Node): Promise<void> {
    await node.volumes.stage({
      volume: 'one',
      dataset: 'photos',
      version: version.id,
      kind: 'pinned',
      stagingPath: join(folder, 'mounted'),
      repository: location,
    });
    proxy.reset();
  }

  async function staged(options: Partial<NodeOptions> = {}): Promise<Node> {
    const node = await openOne(options);
    stack.defer(async () => {
      await node.volumes.unstage('one', join(folder, 'mounted'));
      await node.close();
    });
    await stage(node);
    return node;
  }

  const idOf = async (path: string): Promise<Digest> => {
    const entry = await findEntry(repository, version.root, bytesOf(path));
    return (entry as { content: { id: Digest } }).content.id;
  };

  it('reads the head of a large one while the rest is not fetched', async () => {
    await staged();
    expect((await stat(mounted('large'))).size).toBe(LARGE);
    const file = await open(mounted('large'));
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
      expect(bytesRead).toBe(4096);
      expect(buffer.equals(await expected(0, 4096))).toBe(true);
      const tail = await file.read(Buffer.alloc(4096), 0, 4096, LARGE - 4096);
      expect(tail.buffer.equals(await expected(LARGE - 4096, 4096))).toBe(true);
      const { requests, received } = proxy.total('GetObject');
      expect(requests).toBeLessThan(16);
      expect(received).toBeLessThan(LARGE / 2);
    } finally {
      await file.close();
    }
  }, 60_000);

  it('reads it whole in order, several readers at a time, and natively or passed through after that', async () => {
    const node = await staged();
    const sums = await Promise.all([1, 2, 3].map(() => run('sha256sum', [mounted('large')])));
    for (const { stdout } of sums) expect(stdout.slice(0, 64)).toBe(digest);
    const { received } = proxy.total('GetObject');
    expect(received).toBeLessThan(LARGE * 1.05);
    const id = await idOf('large');
    await until(() => node.cache.has(id));
    proxy.plan = () => ({ kind: 'refuse' });
    let streamed = 0;
    stack.defer(subscribe('streamed', ({ bytes }) => (streamed += bytes)));
    const { reads } = node.ring.server.counters();
    const { stdout } = await run('sha256sum', [mounted('large')]);
    expect(node.ring.server.counters().passedOpens).toBe(1);
    expect(stdout.slice(0, 64)).toBe(digest);
    expect(streamed).toBe(0);
    expect(node.ring.server.counters().reads).toBe(reads);
    expect(readdirSync(join(folder, 'cache', 'partial'))).toEqual([]);
    const inPlace = await readFile(objectPath(node.cache.layout, id));
    expect(createHash('sha256').update(inPlace).digest('hex')).toBe(digest);
  }, 120_000);

  it('reads all of a version, small files among them, with a cache that has no room', async () => {
    const node = await staged({ limits: { limit: { bytes: 1 } }, streamOver: 64 * MIB, streamMemory: 16 * MIB });
    const sums = (directory: string) => run('sh', ['-c', 'sha256sum small-* large'], { cwd: directory });
    expect((await sums(join(folder, 'mounted'))).stdout).toBe((await sums(source)).stdout);
    const kept = readdirSync(join(folder, 'cache', 'objects'), { recursive: true, withFileTypes: true });
    expect(kept.filter((entry) => entry.isFile())).toEqual([]);
    expect(readdirSync(join(folder, 'cache', 'partial'))).toEqual([]);
    expect(node.streams.stats().memoryBytes).toBeLessThanOrEqual(16 * MIB);
    const { requests, received } = proxy.total('GetObject');
    expect(received).toBeLessThan(LARGE * 1.1);
    // Small files came along with each other.
    expect(requests).toBeLessThan(100);
  }, 120_000);

  it('is read on through an open file when another daemon takes over', async () => {
    const socket = runtimePaths(join(folder, 'run')).keeperSocket;
    mkdirSync(join(folder, 'run'));
    const keeper = startScript('keeper.ts', [socket]);
    stack.defer(async () => {
      keeper.child.kill('SIGKILL');
      await keeper.ended;
    });
    await until(() => keeper.output().includes('keeping'));
    const first = await openOne();
    await stage(first);
    const file = await open(mounted('large'));
    const readAt = async (offset: number) => (await file.read(Buffer.alloc(MIB), 0, MIB, offset)).buffer;
    try {
      expect((await readAt(0)).equals(await expected(0, MIB))).toBe(true);
      await first.close();
      const waiting = readAt(100 * MIB);
      const second = await openOne();
      try {
        expect(second.ring.how).toBe('joined');
        expect((await waiting).equals(await expected(100 * MIB, MIB))).toBe(true);
        expect((await readAt(150 * MIB)).equals(await expected(150 * MIB, MIB))).toBe(true);
        await file.close();
      } finally {
        await second.volumes.unstage('one', join(folder, 'mounted'));
        await second.close();
      }
    } finally {
      await file.close().catch(() => {});
    }
  }, 60_000);

  async function expected(offset: number, length: number): Promise<Buffer> {
    const file = await open(join(source, 'large'));
    try {
      return (await file.read(Buffer.alloc(length), 0, length, offset)).buffer;
    } finally {
      await file.close();
    }
  }
});

/** @returns the SHA-256 of what was written */
function writeRandom(path: string, bytes: number): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'wx');
  for (let at = 0; at < bytes; at += MIB) {
    const block = randomBytes(Math.min(MIB, bytes - at));
    hash.update(block);
    writeSync(file, block);
  }
  closeSync(file);
  return hash.digest('hex');
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come to pass within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
