import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bucketAt } from '../../dataset/bucket/at.ts';
import { bytesOf } from '../../dataset/byte-string.ts';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, UnavailableError } from '../../dataset/errors.ts';
import { findEntry } from '../../dataset/manifest.ts';
import { initRepository, openRepository, type Repository } from '../../dataset/repository.ts';
import { importListing } from '../../dataset/source/import-listing.ts';
import { closeSources } from '../../dataset/source/sources.ts';
import { type BreakingProxy, randomFaults, startBreakingProxy } from '../../test/support/breaking-proxy.ts';
import { createRandom } from '../../test/support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { stage } from '../staged.fixture.ts';
import { partsOf, type RigOptions, readAtRandom, readInOrder, streamRig, until } from './streams.fixture.ts';

let server: S3Server;
let proxy: BreakingProxy;
const stack = new AsyncDisposableStack();

describe.skipIf(!hasS3Server)('a large object in an S3 bucket', () => {
  beforeAll(async () => {
    server = stack.use(await startS3Server());
    proxy = stack.use(await startBreakingProxy(server.endpoint));
  }, S3_SERVER_TIMEOUT);
  afterEach(() => {
    proxy.plan = () => undefined;
  });
  afterAll(() => stack.disposeAsync());

  /** The same repository: written past the proxy, read by way of it. */
  async function repositories(scope: AsyncDisposableStack): Promise<{ repository: Repository; reads: Repository }> {
    const location = await server.location('repository');
    const repository = await initRepository(location);
    const reads = await openRepository(proxy.location(location));
    scope.defer(async () => {
      await closeSources(reads);
      await Promise.all([repository.bucket.close(), reads.bucket.close()]);
    });
    return { repository, reads };
  }

  it.each([
    { about: 'onto the disk', seed: 21, options: {} },
    { about: 'into memory', seed: 22, options: { roomBytes: 0, memory: 1024 * 1024 } },
  ] satisfies { about: string; seed: number; options: RigOptions }[])(
    'gives every byte right to several readers while the bucket breaks, $about',
    async ({ seed, options }) => {
      await using scope = new AsyncDisposableStack();
      const random = createRandom(seed);
      const files = { large: partsOf(random, 30, 300_000) };
      const rig = scope.use(await streamRig(files, { ...options, patience: 60_000 }, await repositories(scope)));
      const file = await rig.open('large');
      // Its place is known; from here on everything breaks, but for what would take a client's whole patience.
      proxy.plan = randomFaults(random, {
        every: 4,
        kinds: ['slow-down', 'error', 'refuse', 'reset', 'truncate', 'shorten', 'wrong-range', 'latency'],
      });
      await Promise.all([
        readAtRandom(file, rig.bytes('large'), createRandom(seed + 100), 40),
        readAtRandom(file, rig.bytes('large'), createRandom(seed + 200), 40),
        readInOrder(file, rig.bytes('large'), 50_000),
      ]);
      expect(proxy.faults.size).toBeGreaterThan(3);
      file.close();
    },
    60_000,
  );

  it('is asked for again where its bytes were changed on their way, and is damaged only if they come so again', async () => {
    await using scope = new AsyncDisposableStack();
    const files = { large: [randomBytes(300_000), randomBytes(300_000)] };
    const rig = scope.use(await streamRig(files, {}, await repositories(scope)));
    const file = await rig.open('large');
    let flips = 1;
    proxy.plan = ({ path }) => (path.includes('/packs/') && flips-- > 0 ? { kind: 'flip', at: 200_000 } : undefined);
    expect(Buffer.compare(await file.read(10, 100), rig.bytes('large').subarray(10, 110))).toBe(0);
    flips = Number.POSITIVE_INFINITY;
    await expect(file.read(300_010, 100)).rejects.toThrow(CorruptError);
    proxy.plan = () => undefined;
    await readInOrder(file, rig.bytes('large'), 70_000);
    file.close();
  });

  it('fails a read in time where the bucket says nothing more, and lets a reader go that is interrupted', async () => {
    await using scope = new AsyncDisposableStack();
    const files = { large: [randomBytes(600_000), randomBytes(600_000)] };
    const rig = scope.use(await streamRig(files, { patience: 500 }, await repositories(scope)));
    const file = await rig.open('large');
    proxy.plan = ({ path }) => (path.includes('/packs/') ? { kind: 'stall', after: 1000 } : undefined);
    const killed = new AbortController();
    const read = file.read(0, 10, killed.signal);
    await until(() => proxy.faults.has('stall'));
    killed.abort(new Error('killed'));
    await expect(read).rejects.toThrow('killed');
    proxy.plan = ({ path }) => (path.includes('/packs/') ? { kind: 'slow-down' } : undefined);
    await expect(file.read(0, 10, AbortSignal.timeout(1000))).rejects.toThrow();
    proxy.plan = () => undefined;
    expect(Buffer.compare(await file.read(0, 10), rig.bytes('large').subarray(0, 10))).toBe(0);
    file.close();
  });

  it('that stays in its own bucket comes by ranges, and is refused by its key where it has changed', async () => {
    await using scope = new AsyncDisposableStack();
    const { repository, reads } = await repositories(scope);
    const name = await server.makeBucket();
    const bytes = createRandom(31).bytes(22_500_000);
    const { bucket: direct } = await bucketAt(server.locationOf(name));
    scope.defer(() => direct.close());
    await direct.put('photo.tar', bytes);
    const { version } = await importListing({
      repository,
      dataset: 'photos',
      branch: 'main',
      message: '',
      author: 'a test',
      bucket: { bucket: name, location: proxy.location(server.locationOf(name)) },
      prefix: '',
      listing: direct.list(''),
    });
    const entry = await findEntry(repository, version.root, bytesOf('photo.tar'));
    const { id } = (entry as { content: { id: Digest } }).content;
    const rig = scope.use(await streamRig({}, { patience: 20_000 }, { repository, reads }));
    rig.hydrator.register(await stage(reads, version.root));
    expect(await rig.hydrator.hydrate(id)).toBe('stream');
    const file = (await rig.streams.open(id))!;
    proxy.reset();
    expect(Buffer.compare(await file.read(22_000_000, 1000), bytes.subarray(22_000_000, 22_001_000))).toBe(0);
    expect(proxy.total('GetObject').received).toBeLessThan(2_000_000);
    const random = createRandom(32);
    proxy.plan = randomFaults(random, { every: 3, kinds: ['slow-down', 'reset', 'truncate', 'wrong-range'] });
    await readInOrder(file, bytes.subarray(0, 4_000_000), 300_000);
    proxy.plan = () => undefined;
    await direct.put('photo.tar', randomBytes(22_500_000));
    const failed = file.read(17_500_000, 10);
    await expect(failed).rejects.toThrow(CorruptError);
    await expect(failed).rejects.toThrow("'photo.tar'");
    // What was verified before is there as it was.
    expect(Buffer.compare(await file.read(22_400_000, 1000), bytes.subarray(22_400_000, 22_401_000))).toBe(0);
    await direct.put('photo.tar', bytes);
    await readInOrder(file, bytes, 1_000_000);
    await until(() => file.whole() !== undefined);
    file.close();
  }, 60_000);

  it('is away: a read says so when its patience is over', async () => {
    await using scope = new AsyncDisposableStack();
    const files = { large: [randomBytes(300_000), randomBytes(300_000)] };
    const rig = scope.use(await streamRig(files, { patience: 300 }, await repositories(scope)));
    const file = await rig.open('large');
    proxy.plan = () => ({ kind: 'refuse' });
    await expect(file.read(0, 10)).rejects.toThrow(UnavailableError);
    file.close();
  }, 60_000);
});
