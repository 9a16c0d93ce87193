import { rmSync, writeFileSync } from 'node:fs';
import { connect, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../dataset/digest.ts';
import { packKey } from '../../dataset/keys.ts';
import {
  type Cluster,
  createClusterWorld,
  fetchedFrom,
  QUICK,
  read,
  type TestNode,
} from '../../test/support/neighbours.ts';
import { peerSeed, ranked } from './rendezvous.ts';

const world = createClusterWorld();

describe('a node whose owner does not serve it', () => {
  it('reads on from the bucket where the owner is killed in the middle', async () => {
    await using sharing = await world.cluster(2);
    const pack = world.version.packs[0]!;
    const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
    const expected = await world.packOf(pack);
    const gate = Promise.withResolvers<void>();
    owner.origin.before = (_, offset) => (offset > 500_000 ? gate.promise : undefined);
    using heard = fetchedFrom(reader.cache);
    const { body } = await reader.bucket.get(packKey(pack));
    const parts: Buffer[] = [];
    let length = 0;
    for await (const block of body) {
      parts.push(block);
      length += block.length;
      if (length > 300_000 && sharing.nodes.includes(owner)) {
        gate.resolve();
        await sharing.remove(owner);
      }
    }
    expect(Buffer.concat(parts).equals(expected)).toBe(true);
    expect(reader.origin.total()).toBeLessThan(expected.length - 250_000);
    expect(heard.map(({ from, failed }) => ({ from, failed }))).toEqual([
      { from: 'neighbour', failed: true },
      { from: 'bucket', failed: false },
    ]);
    expect(heard[0]!.bytes + heard[1]!.bytes).toBe(expected.length);
    expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
  });

  it('passes over an owner that gives no first byte, and one that gives no more', async () => {
    for (const from of [0, 300_000]) {
      await using sharing = await world.cluster(2, QUICK);
      const pack = world.version.packs[0]!;
      const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
      const gate = Promise.withResolvers<void>();
      owner.origin.before = (_, offset) => (offset >= from ? gate.promise : undefined);
      expect((await read(reader.bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
      expect(reader.origin.total()).toBeGreaterThan(0);
      expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
      const before = reader.origin.total();
      await read(reader.bucket, packKey(pack));
      expect(reader.origin.total() - before).toBe((await world.packOf(pack)).length);
      gate.resolve();
    }
  });

  it('waits for an owner that lives and waits for the bucket itself', async () => {
    const silence = 200;
    for (const from of [0, 300_000]) {
      await using sharing = await world.cluster(2, { deadlines: { reach: silence, silence, stall: 60_000 } });
      const pack = world.version.packs[0]!;
      const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
      const gate = Promise.withResolvers<void>();
      owner.origin.before = (_, offset) => (offset >= from ? gate.promise : undefined);
      const reading = read(reader.bucket, packKey(pack));
      await sleep(5 * silence);
      gate.resolve();
      expect((await reading).equals(await world.packOf(pack))).toBe(true);
      expect(reader.origin.total()).toBe(0);
      expect(reader.warnings).toEqual([]);
    }
  });

  it('goes to the one that stands in for an owner that is gone, as all others do', async () => {
    await using sharing = await world.cluster(4);
    const pack = world.version.packs[0]!;
    const owner = sharing.owner(pack);
    await sharing.remove(owner);
    for (const { bucket } of sharing.nodes)
      expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
    expect(sharing.fromBucket()).toBe((await world.packOf(pack)).length);
  });

  it('is not held up by an owner that takes connections and says nothing', async () => {
    const sockets = new Set<Socket>();
    const silent = createTcpServer((socket) => sockets.add(socket));
    try {
      await using sharing = await world.cluster(1, QUICK);
      const self = sharing.nodes[0]!.name;
      const port = await listeningAs(silent, (name) =>
        world.version.packs.some((pack) => ownerOf([self, name], pack) === name),
      );
      await sharing.listed([...sharing.nodes.map(({ name }) => name), `127.0.0.1:${port}`]);
      const { bucket, neighbours } = sharing.nodes[0]!;
      for (const pack of world.version.packs)
        expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
      expect(neighbours.stats().passedOver).toEqual([`127.0.0.1:${port}`]);
      // It was asked once for an object, and once for a sign of life, on a connection that is there and on a new one.
      expect(sockets.size).toBe(3);
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });

  it('asks another where the owner does not have the repository open', async () => {
    await using sharing = await world.cluster(2);
    const third = await addOwner(sharing, { closed: true });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs)
      for (const { bucket } of sharing.nodes.slice(0, 2))
        expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
    let all = 0;
    for (const pack of world.version.packs) all += (await world.packOf(pack)).length;
    expect(sharing.fromBucket()).toBe(all);
    expect(third.neighbours.stats().served).toBe(0);
    expect(third.neighbours.stats().refused).toBeGreaterThan(0);
    // That is no failure of the neighbour.
    for (const { neighbours } of sharing.nodes) expect(neighbours.stats().passedOver).toEqual([]);
  });

  it('asks it again as soon as it has', async () => {
    const minute = { first: 60_000, longest: 60_000 };
    await using sharing = await world.cluster(1, { notOpen: minute });
    const late = await addOwner(sharing, { closed: true });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    const reader = sharing.nodes[0]!;
    const owned = world.version.packs.filter((pack) => sharing.owner(pack) === late).map(packKey);
    for (const key of owned) await read(reader.bucket, key);
    expect(late.neighbours.stats()).toMatchObject({ served: 0, refused: 1 });
    late.neighbours.share(world.repository.id, late.origin);
    while (late.neighbours.stats().served === 0) {
      for (const key of owned) await read(reader.bucket, key);
      await sleep(10);
    }
    expect(late.neighbours.stats().refused).toBe(1);
  });
});

describe('the list of nodes', () => {
  it('may change at any time: a new node gets its part, and a lost one is no longer asked', async () => {
    await using sharing = await world.cluster(2);
    const fourth = await sharing.add();
    await sharing.add();
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs) await read(sharing.others(pack)[0]!.bucket, packKey(pack));
    const owned = world.version.packs.filter((pack) => sharing.owner(pack) === fourth).length;
    expect(fourth.neighbours.stats().store.objects).toBe(owned);
    await sharing.remove(fourth);
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs)
      for (const { bucket } of sharing.nodes)
        expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
    for (const { neighbours } of sharing.nodes) expect(neighbours.stats().passedOver).toEqual([]);
  });

  it('with only this node in it costs nothing', async () => {
    await using sharing = await world.cluster(1);
    const { bucket, neighbours, origin } = sharing.nodes[0]!;
    await read(bucket, packKey(world.version.packs[0]!));
    expect(origin.gets).toBe(1);
    expect(neighbours.stats().store.objects).toBe(0);
  });

  it('stays as it was where it cannot be read', async () => {
    await using sharing = await world.cluster(2);
    const { neighbours, warnings } = sharing.nodes[0]!;
    writeFileSync(sharing.list, '10.0.0.1:7411\nno address\n');
    await neighbours.refresh();
    expect(neighbours.stats().nodes).toHaveLength(2);
    expect(warnings.join()).toMatch(/line 2 of .* must be HOST:PORT/);
    rmSync(sharing.list);
    await neighbours.refresh();
    expect(neighbours.stats().nodes).toHaveLength(2);
  });

  it('may call this node by a name that its addresses do not tell', async () => {
    await using sharing = await world.cluster(1);
    const { name, neighbours, bucket } = sharing.nodes[0]!;
    const { port } = neighbours.address!;
    const forward = createTcpServer((socket) => {
      const onward = connect(port, '127.0.0.1');
      socket.on('error', () => {}).on('close', () => onward.destroy());
      onward.on('error', () => {}).on('close', () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    });
    await listening(forward);
    try {
      const other = `127.0.0.1:${(forward.address() as { port: number }).port}`;
      await sharing.listed([other]);
      expect(neighbours.stats().self).toBeUndefined();
      expect(
        (await read(bucket, packKey(world.version.packs[0]!))).equals(await world.packOf(world.version.packs[0]!)),
      ).toBe(true);
      expect(neighbours.stats()).toMatchObject({ self: other, passedOver: [] });
      expect(name).not.toBe(other);
    } finally {
      forward.close();
    }
  });
});

/** Adds a node that owns a pack: its port decides. */
async function addOwner(sharing: Cluster, options: Parameters<Cluster['add']>[0]): Promise<TestNode> {
  for (;;) {
    const node = await sharing.add(options);
    if (world.version.packs.some((pack) => sharing.owner(pack) === node)) return node;
    await sharing.remove(node);
  }
}

/** Listens on ports until one makes it what is wanted of its name. */
async function listeningAs(server: Server, isWanted: (name: string) => boolean): Promise<number> {
  for (;;) {
    await listening(server);
    const { port } = server.address() as { port: number };
    if (isWanted(`127.0.0.1:${port}`)) return port;
    await new Promise((resolve) => server.close(resolve));
  }
}

function ownerOf(names: readonly string[], digest: Digest): string {
  return ranked(
    names.map((name) => ({ name, seed: peerSeed(name) })),
    digest,
  )[0]!.name;
}

async function listening(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}
