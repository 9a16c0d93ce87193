import { describe, expect, it } from 'vitest';
import { locationsKey, packKey, segmentKey } from '../../dataset/keys.ts';
import { collect } from '../../test/support/collect.ts';
import { createClusterWorld, fetchedFrom, read } from '../../test/support/neighbours.ts';
import { openCache } from '../cache.ts';
import { createHydrator } from '../hydrate.ts';

const world = createClusterWorld();

describe('nodes that share', () => {
  it('read each pack once from the bucket, all of them together', async () => {
    await using sharing = await world.cluster(4);
    const { packs } = world.version;
    await Promise.all(
      sharing.nodes.map(async ({ bucket }) => {
        for (const pack of packs)
          expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
      }),
    );
    let all = 0;
    for (const pack of packs) all += (await world.packOf(pack)).length;
    expect(sharing.fromBucket()).toBe(all);
    for (const { warnings } of sharing.nodes) expect(warnings).toEqual([]);
  });

  it('give each other ranges, with the facts of the whole', async () => {
    await using sharing = await world.cluster(2);
    const pack = world.version.packs[0]!;
    const bytes = await world.packOf(pack);
    for (const { bucket, origin } of sharing.nodes) {
      const object = await bucket.get(packKey(pack), { range: { offset: 5000, length: 200_000 } });
      const { size, etag, modified } = (await origin.head(packKey(pack)))!;
      expect({ size: object.size, etag: object.etag }).toEqual({ size, etag });
      expect(Math.abs(object.modified.getTime() - modified.getTime())).toBeLessThan(1000);
      expect(Buffer.concat(await collect(object.body)).equals(bytes.subarray(5000, 205_000))).toBe(true);
      const more = await bucket.get(packKey(pack), { range: { offset: 9, length: 9 }, ifMatch: etag });
      expect(Buffer.concat(await collect(more.body)).equals(bytes.subarray(9, 18))).toBe(true);
    }
    expect(sharing.fromBucket()).toBeLessThan(300_000);
  });

  it('tell which bytes came from a neighbour and which from the bucket', async () => {
    await using sharing = await world.cluster(2);
    const pack = world.version.packs[0]!;
    const bytes = (await world.packOf(pack)).length;
    const [owner, other] = [sharing.owner(pack), sharing.others(pack)[0]!];
    using atOwner = fetchedFrom(owner.cache);
    using atOther = fetchedFrom(other.cache);
    await read(other.bucket, packKey(pack));
    await read(owner.bucket, packKey(pack));
    expect(atOther.map(({ from, bytes, failed }) => ({ from, bytes, failed }))).toEqual([
      { from: 'neighbour', bytes, failed: false },
    ]);
    expect(atOwner.map(({ from, bytes, failed }) => ({ from, bytes, failed }))).toEqual([
      { from: 'bucket', bytes, failed: false },
    ]);
    expect(other.neighbours.stats()).toMatchObject({ received: bytes, sent: 0, self: other.name });
    expect(owner.neighbours.stats()).toMatchObject({ received: 0, sent: bytes, served: 1 });
  });

  it('ask the bucket for locations when they are asked for again, for they may have been rewritten', async () => {
    await using sharing = await world.cluster(2);
    const segment = world.version.staged.map.segments[0]!;
    const key = locationsKey(segment);
    const reader = sharing.others(segment)[0]!;
    const before = await read(reader.bucket, key);
    expect(reader.origin.gets).toBe(0);
    const { repository } = world;
    try {
      await repository.bucket.put(key, Buffer.from('rewritten'));
      expect((await read(reader.bucket, key)).toString()).toBe('rewritten');
      // Others may see what is a minute old, once.
      expect((await read(sharing.owner(segment).bucket, key)).equals(before)).toBe(true);
      expect((await read(sharing.owner(segment).bucket, key)).toString()).toBe('rewritten');
    } finally {
      await repository.bucket.put(key, before);
    }
  });

  it('read alone what they may not share: versions, refs, and an object’s old versions', async () => {
    await using sharing = await world.cluster(2);
    const { bucket, origin } = sharing.nodes[0]!;
    await read(bucket, 'repository.json');
    await collect((await bucket.get(packKey(world.version.packs[0]!), { version: 'x' })).body);
    expect(origin.gets).toBe(2);
    expect(sharing.nodes[1]!.neighbours.stats().served).toBe(0);
  });

  it('find each other’s damage and read the bucket then', async () => {
    await using sharing = await world.cluster(2);
    const pack = world.version.packs[0]!;
    const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
    const key = packKey(pack);
    // The owner was given wrong bytes: it cannot know, since it only checks the pack's index.
    const inner = owner.origin.get;
    owner.origin.get = async (asked, options) => {
      const object = await inner(asked, options);
      async function* changed(): AsyncGenerator<Buffer> {
        for await (const block of object.body) {
          if (asked === key) block[block.length - 1]! ^= 1;
          yield block;
        }
      }
      return { ...object, body: changed() };
    };
    const directory = world.folder();
    await using cache = await openCache({ directory });
    await using hydrator = createHydrator({ cache, threads: 1 });
    const staged = { ...world.version.staged, repository: { ...world.repository, bucket: reader.bucket } };
    hydrator.register(staged);
    for (const { id } of world.version.files.values()) expect(await hydrator.hydrate(id)).toBe('ready');
    expect(owner.neighbours.stats().served).toBeGreaterThan(0);
    expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
    // It asks the bucket for what was wrong, and for the rest too while the owner is passed over.
    expect(reader.origin.bytes.get(key)).toBeGreaterThan(0);
  });

  it('find a wrong segment before anyone has it', async () => {
    await using sharing = await world.cluster(2);
    const segment = world.version.staged.map.segments[0]!;
    const [owner, reader] = [sharing.owner(segment), sharing.others(segment)[0]!];
    const right = await read(world.repository.bucket, segmentKey(segment));
    owner.origin.get = async () => {
      const object = await world.repository.bucket.get(segmentKey(segment));
      return { ...object, body: wrong(right.length) };
    };
    async function* wrong(length: number): AsyncGenerator<Buffer> {
      yield Buffer.alloc(length, 1);
    }
    expect((await read(reader.bucket, segmentKey(segment))).equals(right)).toBe(true);
    expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
    expect(owner.warnings.join()).toMatch(/is not kept for neighbours/);
  });
});
