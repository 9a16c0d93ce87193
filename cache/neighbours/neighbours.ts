import { randomBytes } from 'node:crypto';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { publish } from '../events.ts';
import type { Room } from '../room.ts';
import { type Address, formatAddress } from './address.ts';
import { type Sharing, sharedBucket } from './bucket.ts';
import { createClient, type Deadlines } from './client.ts';
import { type IdentityFiles, type IdentityKeeper, openIdentity } from './identity.ts';
import { createLocationsKeeper } from './locations.ts';
import { createOrigin } from './origin.ts';
import { openPeerList } from './peer-list.ts';
import type { PeerSource, Resolver } from './peer-source.ts';
import { createPenalties } from './penalties.ts';
import { startServer } from './server.ts';
import { openStore } from './store.ts';
import { sharedKey } from './wire.ts';

/** What a node shares with its neighbours: each pack of a bucket is fetched by its owner, and had from there by the others. */
export interface Neighbours extends AsyncDisposable {
  /**
   * Wraps a repository's bucket, and from now on gives what is in it to neighbours that ask this node, until the wrapped bucket is
   * closed.
   */
  share(repository: string, bucket: Bucket): Bucket;
  /** Deletes what is kept for neighbours, the oldest first, until so many bytes are gone. @returns how many went */
  release(bytes: number): number;
  /** Where neighbours are served; undefined where they are not. */
  readonly address: Address | undefined;
  /** Looks at once for another list of nodes and another certificate; also done at intervals. */
  refresh(): Promise<void>;
  stats(): NeighbourStats;
  close(): Promise<void>;
}

export interface NeighbourStats {
  /** Nodes in the list, this one among them. */
  readonly nodes: readonly string[];
  /** How the list calls this node; undefined where it does not have it. */
  readonly self: string | undefined;
  readonly passedOver: readonly string[];
  /** Bytes of objects that neighbours gave. */
  readonly received: number;
  /** Bytes of objects given to neighbours, and requests. */
  readonly sent: number;
  readonly served: number;
  readonly refused: number;
  /** Requests being answered now. */
  readonly active: number;
  readonly store: { readonly bytes: number; readonly objects: number; readonly limit: number };
}

export interface NeighboursOptions {
  /** The cache's directory, for events. */
  readonly cache: string;
  readonly source: PeerSource;
  /** How the list calls this node, where its addresses do not tell. */
  readonly self?: Address | undefined;
  /** Undefined: this node asks its neighbours and gives them nothing. */
  readonly listen: Address | undefined;
  /** `plain`: HTTP without TLS, for tests on one machine. */
  readonly identity: IdentityFiles | 'plain';
  /** Where to keep what neighbours may ask for: the store has the directory to itself. */
  readonly store: { readonly directory: string; readonly limit: number };
  readonly room?: Room | undefined;
  readonly deadlines?: Partial<Deadlines>;
  /** How long a neighbour is passed over after a failure, and after many, in milliseconds. */
  readonly penalty?: { readonly first: number; readonly longest: number };
  /** Between two looks at the list of nodes and the certificate, in milliseconds. */
  readonly interval?: number;
  readonly resolver?: Resolver;
  readonly onWarning: (message: string) => void;
}

const DEADLINES: Deadlines = { connect: 2_000, head: 5_000, stall: 5_000 };
const PENALTY = { first: 2_000, longest: 300_000 };
/** Of who does not have a repository open: that changes more often. */
const CLOSED = { first: 1_000, longest: 30_000 };
const INTERVAL = 5_000;

export async function openNeighbours(options: NeighboursOptions): Promise<Neighbours> {
  const { cache, source, self, listen, store: storeOptions, room, resolver, onWarning } = options;
  const interval = options.interval ?? INTERVAL;
  const instance = randomBytes(16).toString('hex');
  const open = new Map<string, Bucket>();
  let received = 0;

  await using stack = new AsyncDisposableStack();
  let identity: IdentityKeeper | undefined;
  if (options.identity !== 'plain') {
    identity = openIdentity({
      files: options.identity,
      interval,
      onWarning,
      onChange: (next) => {
        client.use(next);
        server?.use(next);
      },
    });
    stack.adopt(identity, (keeper) => keeper.close());
  }
  const client = createClient({
    identity: identity?.current,
    instance,
    deadlines: { ...DEADLINES, ...options.deadlines },
  });
  stack.adopt(client, (opened) => opened.close());
  const store = await openStore({ ...storeOptions, room });
  stack.adopt(store, (opened) => opened.close());
  const origin = createOrigin({
    store,
    onWarning,
    onFetched: (repository, { bytes, began, failed }) =>
      publish('fetched', {
        cache,
        repository,
        from: 'bucket',
        bytes,
        milliseconds: performance.now() - began,
        failed,
      }),
  });
  stack.adopt(origin, (opened) => opened.close());
  const locations = createLocationsKeeper();

  const server =
    listen &&
    (await startServer({
      listen,
      identity: identity?.current,
      instance,
      serve: (repository, key, get) => {
        const bucket = open.get(repository);
        if (bucket === undefined) return undefined;
        if (sharedKey(key)?.kind !== 'locations') return origin.get(repository, bucket, key, get);
        return get.range === undefined && get.ifMatch === undefined
          ? locations.get(repository, bucket, key, get.signal)
          : Promise.reject(new InvalidError('locations are given whole'));
      },
    }));
  if (server !== undefined) stack.adopt(server, (started) => started.close());
  const peers = await openPeerList({
    source,
    self: self && formatAddress(self),
    port: server?.address.port,
    interval,
    resolver,
    onWarning,
  });
  stack.adopt(peers, (list) => list.close());

  const penalties = createPenalties(options.penalty ?? PENALTY);
  const sharing: Sharing = {
    cache,
    peers,
    client,
    origin,
    locations,
    penalties,
    closed: createPenalties(CLOSED),
    serves: server !== undefined,
    drop: (name) => store.drop(name),
    onFault: (error) => onWarning(`a neighbour is passed over: ${error.message}`),
    onReceived: (bytes) => {
      received += bytes;
    },
  };
  const held = stack.move();
  const close = () => held.disposeAsync();
  return {
    share(repository, bucket) {
      const shared = sharedBucket(bucket, repository, sharing);
      open.set(repository, bucket);
      return Object.assign(shared, {
        close: async () => {
          if (open.get(repository) === bucket) open.delete(repository);
          await bucket.close();
        },
      });
    },
    release: (bytes) => store.release(bytes),
    address: server?.address,
    async refresh() {
      identity?.refresh();
      await peers.refresh();
    },
    stats: () => ({
      nodes: peers.peers.map(({ name }) => name),
      self: peers.peers.find((peer) => peer.self)?.name,
      passedOver: penalties.passedOver,
      received,
      sent: server?.stats.bytes ?? 0,
      served: server?.stats.served ?? 0,
      refused: server?.stats.refused ?? 0,
      active: server?.stats.active ?? 0,
      store: { bytes: store.bytes, objects: store.objects, limit: store.limit },
    }),
    close,
    [Symbol.asyncDispose]: close,
  };
}
