import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { connect, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { readObject } from '../../dataset/bucket/read-object.ts';
import type { Digest } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { locationsKey, packKey, segmentKey } from '../../dataset/keys.ts';
import { type Authority, makeAuthority } from '../../test/support/certificates.ts';
import { collect } from '../../test/support/collect.ts';
import { openCache } from '../cache.ts';
import { type CacheEvents, subscribe } from '../events.ts';
import { createHydrator } from '../hydrate.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from '../staged.fixture.ts';
import { formatAddress } from './address.ts';
import { type ControlledBucket, controlledBucket } from './controlled-bucket.fixture.ts';
import type { IdentityFiles } from './identity.ts';
import { type Neighbours, type NeighboursOptions, openNeighbours } from './neighbours.ts';
import { peerSeed, ranked } from './rendezvous.ts';
import { CERTIFICATE_NAME } from './wire.ts';

/** For tests of who is slow; others must not be about how busy this machine is. */
const QUICK = { deadlines: { connect: 500, head: 500, stall: 500 } };
const PATIENT = { connect: 30_000, head: 60_000, stall: 60_000 };
const PENALTY = { first: 60_000, longest: 60_000 };

let top: string;
let authority: Authority;
let identity: IdentityFiles;
let made: Awaited<ReturnType<typeof temporaryRepository>>;
let version: BuiltVersion;
let folders = 0;

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'larder-neighbours-'));
  authority = makeAuthority(top, 'authority');
  identity = authority.issue();
  made = await temporaryRepository();
  version = await buildVersion(made.repository, randomFiles(80, 100_000), { target: 1_000_000 });
});

afterAll(async () => {
  await made[Symbol.asyncDispose]();
  rmSync(top, { recursive: true, force: true });
});

interface TestNode {
  readonly name: string;
  readonly neighbours: Neighbours;
  /** The node's own way to the bucket. */
  readonly origin: ControlledBucket;
  /** Which asks neighbours first. */
  readonly bucket: Bucket;
  readonly cache: string;
  readonly warnings: string[];
}

interface Cluster extends AsyncDisposable {
  readonly nodes: readonly TestNode[];
  readonly list: string;
  /** Bytes of packs that all have had from the bucket. */
  fromBucket(): number;
  /** The node that owns a digest. */
  owner(digest: string): TestNode;
  others(digest: string): TestNode[];
  add(options?: Partial<NeighboursOptions> & { readonly closed?: boolean }): Promise<TestNode>;
  /** Tells all nodes of these names. */
  listed(names: readonly string[]): Promise<void>;
  remove(node: TestNode): Promise<void>;
}

async function cluster(count: number, options: Partial<NeighboursOptions> = {}): Promise<Cluster> {
  const list = join(top, `list-${folders++}`);
  writeFileSync(list, '');
  const nodes: TestNode[] = [];
  const made: Cluster = {
    nodes,
    list,
    fromBucket: () => nodes.reduce((sum, { origin }) => sum + origin.total(), 0),
    owner: (digest) =>
      byName(
        ranked(
          nodes.map(({ name }) => ({ name, seed: peerSeed(name) })),
          digest,
        )[0]!.name,
      ),
    others: (digest) => nodes.filter((node) => node !== made.owner(digest)),
    add: async (more = {}) => {
      const node = await startNode(list, { ...options, ...more });
      nodes.push(node);
      return node;
    },
    listed: async (names) => {
      writeFileSync(list, `# all nodes\n${names.join('\n')}\n`);
      await Promise.all(nodes.map(({ neighbours }) => neighbours.refresh()));
    },
    remove: async (node) => {
      nodes.splice(nodes.indexOf(node), 1);
      await node.neighbours.close();
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(nodes.map(({ neighbours }) => neighbours.close()));
    },
  };
  const byName = (name: string) => nodes.find((node) => node.name === name)!;
  for (let at = 0; at < count; at++) await made.add();
  await made.listed(nodes.map(({ name }) => name));
  return made;
}

async function startNode(
  list: string,
  { closed, ...options }: Partial<NeighboursOptions> & { readonly closed?: boolean },
): Promise<TestNode> {
  const { repository } = made;
  const cache = join(top, `node-${folders++}`);
  const warnings: string[] = [];
  const neighbours = await openNeighbours({
    cache,
    source: { kind: 'file', path: list },
    listen: { host: '127.0.0.1', port: 0 },
    identity,
    store: { directory: join(cache, 'neighbours'), limit: 100_000_000 },
    deadlines: PATIENT,
    penalty: PENALTY,
    interval: 60_000,
    onWarning: (text) => warnings.push(text),
    ...options,
  });
  const origin = controlledBucket(repository.bucket);
  const bucket = closed ? origin : neighbours.share(repository.id, origin);
  return { name: formatAddress(neighbours.address!), neighbours, origin, bucket, cache, warnings };
}

async function read(bucket: Bucket, key: string, range?: { offset: number; length: number }): Promise<Buffer> {
  return Buffer.concat(await collect((await bucket.get(key, { range })).body));
}

async function packOf(digest: Digest): Promise<Buffer> {
  return (await readObject(made.repository.bucket, packKey(digest), 10 ** 8)).bytes;
}

function fetchedFrom(cache: string): CacheEvents['fetched'][] & Disposable {
  const heard: CacheEvents['fetched'][] = [];
  const end = subscribe('fetched', (event) => {
    if (event.cache === cache) heard.push(event);
  });
  return Object.assign(heard, { [Symbol.dispose]: end });
}

describe('nodes that share', () => {
  it('read each pack once from the bucket, all of them together', async () => {
    await using sharing = await cluster(4);
    const { packs } = version;
    await Promise.all(
      sharing.nodes.map(async ({ bucket }) => {
        for (const pack of packs) expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
      }),
    );
    let all = 0;
    for (const pack of packs) all += (await packOf(pack)).length;
    expect(sharing.fromBucket()).toBe(all);
    for (const { warnings } of sharing.nodes) expect(warnings).toEqual([]);
  });

  it('give each other ranges, with the facts of the whole', async () => {
    await using sharing = await cluster(2);
    const pack = version.packs[0]!;
    const bytes = await packOf(pack);
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
    await using sharing = await cluster(2);
    const pack = version.packs[0]!;
    const bytes = (await packOf(pack)).length;
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
    await using sharing = await cluster(2);
    const segment = version.staged.map.segments[0]!;
    const key = locationsKey(segment);
    const reader = sharing.others(segment)[0]!;
    const before = await read(reader.bucket, key);
    expect(reader.origin.gets).toBe(0);
    const { repository } = made;
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
    await using sharing = await cluster(2);
    const { bucket, origin } = sharing.nodes[0]!;
    await read(bucket, 'repository.json');
    await collect((await bucket.get(packKey(version.packs[0]!), { version: 'x' })).body);
    expect(origin.gets).toBe(2);
    expect(sharing.nodes[1]!.neighbours.stats().served).toBe(0);
  });

  it('find each other’s damage and read the bucket then', async () => {
    await using sharing = await cluster(2);
    const pack = version.packs[0]!;
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
    const directory = join(top, `cache-${folders++}`);
    await using cache = await openCache({ directory });
    await using hydrator = createHydrator({ cache, threads: 1 });
    const staged = { ...version.staged, repository: { ...made.repository, bucket: reader.bucket } };
    hydrator.register(staged);
    for (const { id } of version.files.values()) expect(await hydrator.hydrate(id)).toBe('ready');
    expect(owner.neighbours.stats().served).toBeGreaterThan(0);
    expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
    // It asks the bucket for what was wrong, and for the rest too while the owner is passed over.
    expect(reader.origin.bytes.get(key)).toBeGreaterThan(0);
  });

  it('find a wrong segment before anyone has it', async () => {
    await using sharing = await cluster(2);
    const segment = version.staged.map.segments[0]!;
    const [owner, reader] = [sharing.owner(segment), sharing.others(segment)[0]!];
    const right = await read(made.repository.bucket, segmentKey(segment));
    owner.origin.get = async () => {
      const object = await made.repository.bucket.get(segmentKey(segment));
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

describe('a node whose owner does not serve it', () => {
  it('reads on from the bucket where the owner is killed in the middle', async () => {
    await using sharing = await cluster(2);
    const pack = version.packs[0]!;
    const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
    const expected = await packOf(pack);
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
      await using sharing = await cluster(2, QUICK);
      const pack = version.packs[0]!;
      const [owner, reader] = [sharing.owner(pack), sharing.others(pack)[0]!];
      const gate = Promise.withResolvers<void>();
      owner.origin.before = (_, offset) => (offset >= from ? gate.promise : undefined);
      expect((await read(reader.bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
      expect(reader.origin.total()).toBeGreaterThan(0);
      expect(reader.neighbours.stats().passedOver).toEqual([owner.name]);
      const before = reader.origin.total();
      await read(reader.bucket, packKey(pack));
      expect(reader.origin.total() - before).toBe((await packOf(pack)).length);
      gate.resolve();
    }
  });

  it('goes to the one that stands in for an owner that is gone, as all others do', async () => {
    await using sharing = await cluster(4);
    const pack = version.packs[0]!;
    const owner = sharing.owner(pack);
    await sharing.remove(owner);
    for (const { bucket } of sharing.nodes)
      expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
    expect(sharing.fromBucket()).toBe((await packOf(pack)).length);
  });

  it('is not held up by an owner that takes connections and says nothing', async () => {
    const sockets = new Set<Socket>();
    const silent = createTcpServer((socket) => sockets.add(socket));
    await listening(silent);
    try {
      await using sharing = await cluster(1, QUICK);
      const { port } = silent.address() as { port: number };
      await sharing.listed([...sharing.nodes.map(({ name }) => name), `127.0.0.1:${port}`]);
      const { bucket, neighbours } = sharing.nodes[0]!;
      for (const pack of version.packs)
        expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
      expect(neighbours.stats().passedOver).toEqual([`127.0.0.1:${port}`]);
      // One of them was tried, once.
      expect(sockets.size).toBe(1);
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });

  it('asks another where the owner does not have the repository open', async () => {
    await using sharing = await cluster(2);
    const third = await sharing.add({ closed: true });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs)
      for (const { bucket } of sharing.nodes.slice(0, 2))
        expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
    let all = 0;
    for (const pack of version.packs) all += (await packOf(pack)).length;
    expect(sharing.fromBucket()).toBe(all);
    expect(third.neighbours.stats().served).toBe(0);
    expect(third.neighbours.stats().refused).toBeGreaterThan(0);
    // That is no failure of the neighbour.
    for (const { neighbours } of sharing.nodes) expect(neighbours.stats().passedOver).toEqual([]);
  });
});

describe('the server', () => {
  it('answers what is no request of a neighbour with what is wrong about it, and goes on', async () => {
    await using sharing = await cluster(1);
    const [node] = sharing.nodes;
    const { port } = node!.neighbours.address!;
    const { id } = made.repository;
    const pack = version.packs[0]!;
    const size = (await packOf(pack)).length;
    const path = `/v1/${id}/${packKey(pack)}`;
    const locations = `/v1/${id}/${locationsKey(version.staged.map.segments[0]!)}`;
    const missing = `/v1/${id}/packs/ab/${'ab'.repeat(32)}`;
    const ask = (asked: string, headers: Record<string, string> = {}, method = 'GET') =>
      statusOf({ port, path: asked, headers, method, ...pemOf(identity) });
    expect(await ask(path)).toBe(200);
    expect(await ask(path, { range: 'bytes=0-9' })).toBe(206);
    expect(await ask('/')).toBe(400);
    expect(await ask(`/v1/${id}/repository.json`)).toBe(400);
    expect(await ask(`/v1/${id}/../${id}/${packKey(pack)}`)).toBe(400);
    expect(await ask(path, { range: 'bytes=9-0' })).toBe(400);
    expect(await ask(path, { range: 'bytes=-9' })).toBe(400);
    expect(await ask(path, { 'if-match': '*' })).toBe(400);
    expect(await ask(path, {}, 'POST')).toBe(405);
    expect(await ask(`/v1/${'0'.repeat(36)}/${packKey(pack)}`)).toBe(404);
    expect(await ask(path, { 'if-match': '"other"' })).toBe(412);
    expect(await ask(path, { range: `bytes=0-${size}` })).toBe(416);
    expect(await ask(locations, { range: 'bytes=0-9' })).toBe(416);
    expect(await ask(missing)).toBe(502);
    expect(await statusOf({ port, path, ...pemOf(authority.issue(['other'])) })).toBe(403);
    expect(await ask(path)).toBe(200);
  });

  it('does not serve more at a time than it may, and says so', async () => {
    await using sharing = await cluster(1, { identity: 'plain' });
    const [node] = sharing.nodes;
    const gate = Promise.withResolvers<void>();
    node!.origin.before = () => gate.promise;
    const path = `/v1/${made.repository.id}/${packKey(version.packs[0]!)}`;
    let refused = 0;
    const statuses = await Promise.all(
      // 64 are answered, 256 wait.
      Array.from({ length: 330 }, async () => {
        const answer = await fetch(`http://${node!.name}${path}`, { headers: { range: 'bytes=0-9' } });
        if (answer.status === 503) refused += 1;
        if (refused === 10) gate.resolve();
        await answer.arrayBuffer();
        return answer.status;
      }),
    );
    expect(statuses.filter((status) => status === 206)).toHaveLength(320);
    expect(node!.neighbours.stats().refused).toBe(10);
    expect(node!.origin.gets).toBe(1);
  });
});

describe('the list of nodes', () => {
  it('may change at any time: a new node gets its part, and a lost one is no longer asked', async () => {
    await using sharing = await cluster(2);
    const fourth = await sharing.add();
    await sharing.add();
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs) await read(sharing.others(pack)[0]!.bucket, packKey(pack));
    const owned = version.packs.filter((pack) => sharing.owner(pack) === fourth).length;
    expect(fourth.neighbours.stats().store.objects).toBe(owned);
    await sharing.remove(fourth);
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs)
      for (const { bucket } of sharing.nodes)
        expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
    for (const { neighbours } of sharing.nodes) expect(neighbours.stats().passedOver).toEqual([]);
  });

  it('with only this node in it costs nothing', async () => {
    await using sharing = await cluster(1);
    const { bucket, neighbours, origin } = sharing.nodes[0]!;
    await read(bucket, packKey(version.packs[0]!));
    expect(origin.gets).toBe(1);
    expect(neighbours.stats().store.objects).toBe(0);
  });

  it('stays as it was where it cannot be read', async () => {
    await using sharing = await cluster(2);
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
    await using sharing = await cluster(1);
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
      expect((await read(bucket, packKey(version.packs[0]!))).equals(await packOf(version.packs[0]!))).toBe(true);
      expect(neighbours.stats()).toMatchObject({ self: other, passedOver: [] });
      expect(name).not.toBe(other);
    } finally {
      forward.close();
    }
  });
});

describe('certificates', () => {
  it('of another authority are refused on both sides', async () => {
    await using sharing = await cluster(1);
    const stranger = await sharing.add({ identity: makeAuthority(top, 'stranger').issue() });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs)
      for (const { bucket } of sharing.nodes)
        expect((await read(bucket, packKey(pack))).equals(await packOf(pack))).toBe(true);
    const [first] = sharing.nodes;
    expect(first!.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [stranger.name] });
    expect(stranger.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [first!.name] });
  });

  it('of the same authority for something else are refused on both sides', async () => {
    await using sharing = await cluster(1);
    const other = await sharing.add({ identity: authority.issue(['some-web-server']) });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs) for (const { bucket } of sharing.nodes) await read(bucket, packKey(pack));
    const [first] = sharing.nodes;
    expect(first!.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [other.name] });
    expect(other.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [first!.name] });
  });

  it('are needed: without one nothing is answered', async () => {
    await using sharing = await cluster(1);
    const { port } = sharing.nodes[0]!.neighbours.address!;
    const outcome = await new Promise<string>((resolve) => {
      const asking = request({ host: '127.0.0.1', port, path: '/', rejectUnauthorized: false }, ({ statusCode }) =>
        resolve(`status ${statusCode}`),
      );
      asking.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      asking.end();
    });
    expect(outcome).toMatch(/ECONNRESET|ERR_SSL|EPIPE/);
  });

  it('may be replaced while nodes run, by those of a new authority', async () => {
    const files = { certificate: join(top, 'own.pem'), key: join(top, 'own.key'), authority: join(top, 'own-ca.pem') };
    const install = (from: Authority) => {
      const issued = from.issue();
      for (const kind of ['certificate', 'key', 'authority'] as const) copyFileSync(issued[kind], files[kind]);
    };
    install(authority);
    await using sharing = await cluster(2, { identity: files });
    const [first, second] = version.packs as [Digest, Digest];
    await read(sharing.others(first)[0]!.bucket, packKey(first));
    install(makeAuthority(top, 'successor'));
    for (const { neighbours } of sharing.nodes) await neighbours.refresh();
    const reader = sharing.others(second)[0]!;
    const before = reader.neighbours.stats().received;
    await read(reader.bucket, packKey(second));
    expect(reader.neighbours.stats().received - before).toBe((await packOf(second)).length);
    // A half-written one changes nothing.
    writeFileSync(files.key, 'no key');
    for (const { neighbours } of sharing.nodes) await neighbours.refresh();
    expect(reader.warnings.join()).toMatch(/stays as it was/);
    await read(reader.bucket, packKey(second));
    expect(reader.neighbours.stats().passedOver).toEqual([]);
  });

  it('of two authorities serve together while one takes the other’s place', async () => {
    const successor = makeAuthority(top, 'next');
    const both = join(top, 'both.pem');
    writeFileSync(both, readFileSync(authority.certificate, 'utf8') + readFileSync(successor.certificate, 'utf8'));
    await using sharing = await cluster(1, { identity: { ...identity, authority: both } });
    await sharing.add({ identity: { ...successor.issue(), authority: both } });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of version.packs) for (const { bucket } of sharing.nodes) await read(bucket, packKey(pack));
    for (const { neighbours } of sharing.nodes) {
      expect(neighbours.stats().passedOver).toEqual([]);
      expect(neighbours.stats().received).toBeGreaterThan(0);
    }
  });

  it('that are none are told when the node starts', async () => {
    const wrong = { ...authority.issue(), key: authority.certificate };
    await expect(cluster(1, { identity: wrong })).rejects.toThrow(InvalidError);
    const missing = { ...authority.issue(), authority: join(top, 'not-there.pem') };
    await expect(cluster(1, { identity: missing })).rejects.toThrow(/not-there\.pem cannot be read/);
  });
});

function pemOf({ certificate, key, authority: from }: IdentityFiles) {
  return { cert: readFileSync(certificate), key: readFileSync(key), ca: readFileSync(from) };
}

/** Sends one request, and reads the answer to its end. */
function statusOf(options: RequestOptions): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', servername: CERTIFICATE_NAME, ...options }, (answer) => {
      answer.on('end', () => resolve(answer.statusCode)).on('error', reject);
      answer.resume();
    });
    asking.on('error', reject);
    asking.end();
  });
}

async function listening(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}
