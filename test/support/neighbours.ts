import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { type CacheEvents, subscribe } from '../../cache/events.ts';
import { formatAddress } from '../../cache/neighbours/address.ts';
import { type ControlledBucket, controlledBucket } from '../../cache/neighbours/controlled-bucket.fixture.ts';
import type { IdentityFiles } from '../../cache/neighbours/identity.ts';
import { type Neighbours, type NeighboursOptions, openNeighbours } from '../../cache/neighbours/neighbours.ts';
import { peerSeed, ranked } from '../../cache/neighbours/rendezvous.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from '../../cache/staged.fixture.ts';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { readObject } from '../../dataset/bucket/read-object.ts';
import type { Digest } from '../../dataset/digest.ts';
import { packKey } from '../../dataset/keys.ts';
import type { Repository } from '../../dataset/repository.ts';
import { type Authority, makeAuthority } from './certificates.ts';
import { collect } from './collect.ts';

/** For tests of who is slow; others must not be about how busy this machine is. */
export const QUICK = { deadlines: { reach: 500, silence: 500, stall: 1000 } };
const PATIENT = { reach: 60_000, silence: 60_000, stall: 60_000 };
const PENALTY = { first: 60_000, longest: 60_000 };

export interface TestNode {
  readonly name: string;
  readonly neighbours: Neighbours;
  /** The node's own way to the bucket. */
  readonly origin: ControlledBucket;
  /** Which asks neighbours first. */
  readonly bucket: Bucket;
  readonly cache: string;
  readonly warnings: string[];
}

export interface Cluster extends AsyncDisposable {
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

/** A repository with a version of some packs, and nodes of this process that share it by real sockets and certificates. */
export interface ClusterWorld {
  readonly top: string;
  readonly repository: Repository;
  readonly version: BuiltVersion;
  readonly authority: Authority;
  /** Of all nodes that are given no other. */
  readonly identity: IdentityFiles;
  /** A path where nothing is. */
  folder(): string;
  cluster(count: number, options?: Partial<NeighboursOptions>): Promise<Cluster>;
  /** A pack's bytes, from the bucket itself. */
  packOf(digest: Digest): Promise<Buffer>;
}

/** Made before the tests of a file, and gone after them. */
export function createClusterWorld(): ClusterWorld {
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

  async function cluster(count: number, options: Partial<NeighboursOptions> = {}): Promise<Cluster> {
    const list = join(top, `list-${folders++}`);
    writeFileSync(list, '');
    const nodes: TestNode[] = [];
    const result: Cluster = {
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
      others: (digest) => nodes.filter((node) => node !== result.owner(digest)),
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
    for (let at = 0; at < count; at++) await result.add();
    await result.listed(nodes.map(({ name }) => name));
    return result;
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

  async function packOf(digest: Digest): Promise<Buffer> {
    return (await readObject(made.repository.bucket, packKey(digest), 10 ** 8)).bytes;
  }

  return {
    get top() {
      return top;
    },
    get repository() {
      return made.repository;
    },
    get version() {
      return version;
    },
    get authority() {
      return authority;
    },
    get identity() {
      return identity;
    },
    folder: () => join(top, `folder-${folders++}`),
    cluster,
    packOf,
  };
}

/** All of an object, or a range of it. */
export async function read(bucket: Bucket, key: string, range?: { offset: number; length: number }): Promise<Buffer> {
  return Buffer.concat(await collect((await bucket.get(key, { range })).body));
}

/** What is published of a cache from now on. */
export function fetchedFrom(cache: string): CacheEvents['fetched'][] & Disposable {
  const heard: CacheEvents['fetched'][] = [];
  const end = subscribe('fetched', (event) => {
    if (event.cache === cache) heard.push(event);
  });
  return Object.assign(heard, { [Symbol.dispose]: end });
}
