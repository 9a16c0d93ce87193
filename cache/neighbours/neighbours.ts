import { randomBytes } from 'node:crypto';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { publish } from '../events.ts';
import type { Room } from '../room.ts';
import { type Address, formatAddress } from './address.ts';
import { closedName, type Sharing, sharedBucket } from './bucket.ts';
import { createClient } from './client.ts';
import { type IdentityFiles, type IdentityKeeper, openIdentity } from './identity.ts';
import type { Deadlines } from './life.ts';
import { createLocationsKeeper } from './locations.ts';
import { createOrigin } from './origin.ts';
import { openPeerList, type PeerList } from './peer-list.ts';
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
  /** The same for a repository that it does not have open. */
  readonly notOpen?: { readonly first: number; readonly longest: number };
  /** Between two looks at the list of nodes and the certificate, in milliseconds. */
  readonly interval?: number;
  readonly resolver?: Resolver;
  readonly onWarning: (message: string) => void;
}

/** An owner's own request to a bucket that hangs is given up and sent again within `stall`. */
const DEADLINES: Deadlines = { reach: 2_000, silence: 5_000, stall: 15_000 };
const PENALTY = { first: 2_000, longest: 300_000 };
/** That changes more often, and most of the time it says so. */
const NOT_OPEN = { first: 1_000, longest: 30_000 };
const INTERVAL = 5_000;

/** Repositories for which neighbours asked in vain: the latest so many. */
const ASKED_IN_VAIN = 1024;

export async function openNeighbours(options: NeighboursOptions): Promise<Neighbours> {
  const { cache, source, self, listen, store: storeOptions, room, resolver, onWarning } = options;
  const interval = options.interval ?? INTERVAL;
  const instance = randomBytes(16).toString('hex');
  const open = new Map<string, Bucket>();
  const inVain = new Map<string, Set<string>>();
  const closed = createPenalties(options.notOpen ?? NOT_OPEN);
  let peers: PeerList | undefined;
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
    self: () => selfOf(peers),
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
      onOpen: (from, repository) => closed.succeeded(closedName(from, repository)),
      serve: (repository, key, get, from) => {
        const bucket = open.get(repository);
        if (bucket === undefined) {
          if (peers?.peers.some(({ name }) => name === from)) noteInVain(repository, from!);
          return undefined;
        }
        if (sharedKey(key)?.kind !== 'locations') return origin.get(repository, bucket, key, get);
        return get.range === undefined && get.ifMatch === undefined
          ? locations.get(repository, bucket, key, get.signal)
          : Promise.reject(new InvalidError('locations are given whole'));
      },
    }));
  if (server !== undefined) stack.adopt(server, (started) => started.close());
  const list = await openPeerList({
    source,
    self: self && formatAddress(self),
    port: server?.address.port,
    interval,
    resolver,
    onWarning,
  });
  peers = list;
  stack.adopt(list, (opened) => opened.close());

  const penalties = createPenalties(options.penalty ?? PENALTY);
  const sharing: Sharing = {
    cache,
    peers: list,
    client,
    origin,
    locations,
    penalties,
    closed,
    serves: server !== undefined,
    drop: (name) => store.drop(name),
    onFault: (error) => onWarning(`a neighbour is passed over: ${error.message}`),
    onReceived: (bytes) => {
      received += bytes;
    },
  };
  function noteInVain(repository: string, from: string): void {
    const askers = inVain.get(repository) ?? new Set();
    inVain.set(repository, askers.add(from));
    if (inVain.size > ASKED_IN_VAIN) for (const oldest of inVain.keys()) if (inVain.delete(oldest)) break;
  }

  const held = stack.move();
  const close = () => held.disposeAsync();
  return {
    share(repository, bucket) {
      const shared = sharedBucket(bucket, repository, sharing);
      open.set(repository, bucket);
      for (const peer of inVain.get(repository) ?? []) void client.tellOpen(peer, repository);
      inVain.delete(repository);
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
      await list.refresh();
    },
    stats: () => ({
      nodes: list.peers.map(({ name }) => name),
      self: selfOf(list),
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

function selfOf(list: PeerList | undefined): string | undefined {
  return list?.peers.find(({ self }) => self)?.name;
}
