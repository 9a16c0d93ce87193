import type { Bucket, BucketObject, GetOptions, ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { type MeteredBucket, requestsOf } from '../../dataset/bucket/metrics.ts';
import { ConflictError, CorruptError, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { unsealSegment } from '../../dataset/format/segment.ts';
import type { FromNeighbour } from '../bucket-port.ts';
import { publish } from '../events.ts';
import type { Client, Refusal } from './client.ts';
import { closing } from './closing.ts';
import { onDistrust } from './distrust.ts';
import { LOCATIONS_AGE, type LocationsKeeper } from './locations.ts';
import { NeighbourFault } from './neighbour-fault.ts';
import type { Origin } from './origin.ts';
import type { Peer, PeerList } from './peer-list.ts';
import type { Penalties } from './penalties.ts';
import { createRecent } from './recent.ts';
import { ranked } from './rendezvous.ts';
import { type SharedKey, type SharedKind, sharedKey } from './wire.ts';

/** Neighbours that are tried for one object before the bucket is. */
const TRIES = 3;

/** How long what came wrong from a neighbour is had from the bucket itself, in milliseconds. */
const DISTRUST_FOR = 600_000;

/** Names that are remembered for either. */
const REMEMBERED = 4096;

/** What the wrapped buckets of one node have in common. */
export interface Sharing {
  /** The cache's directory, for events. */
  readonly cache: string;
  readonly peers: PeerList;
  readonly client: Client;
  readonly origin: Origin;
  readonly locations: LocationsKeeper;
  /** Of peers. */
  readonly penalties: Penalties;
  /** Of `closedName`s. */
  readonly closed: Penalties;
  /** Whether this node gives what it owns to others: else it keeps nothing for them. */
  readonly serves: boolean;
  /** What is kept of this name was wrong. */
  drop(name: string): void;
  onReceived(bytes: number): void;
  /** A neighbour is passed over for a while. */
  onFault(error: Error): void;
}

/** A bucket whose packs, segments and locations are asked of the node that owns them first. */
export function sharedBucket(inner: Bucket, repository: string, sharing: Sharing): Bucket {
  const { peers, client, origin, locations, penalties, closed } = sharing;
  const wrong = createRecent<true>(REMEMBERED, DISTRUST_FOR);
  const asked = createRecent<true>(REMEMBERED, LOCATIONS_AGE);
  const givers = createRecent<string>(REMEMBERED, DISTRUST_FOR);

  async function get(key: string, options: GetOptions = {}): Promise<BucketObject> {
    const shared = options.version === undefined ? sharedKey(key) : undefined;
    if (shared === undefined || wrong.get(key) !== undefined) return await inner.get(key, options);
    if (shared.kind === 'locations') {
      if (options.range !== undefined || options.ifMatch !== undefined) return await inner.get(key, options);
      // Who asks again so soon may have found that they are old; later, an owner's are newer than what he had.
      const again = asked.get(key) !== undefined;
      asked.set(key, true);
      if (again) return await inner.get(key, options);
    }
    let tries = 0;
    for (const peer of ranked(peers.peers, shared.digest)) {
      if (peer.self) {
        if (!sharing.serves || peers.peers.length === 1) break;
        return shared.kind === 'locations'
          ? await locations.get(repository, inner, key, options.signal)
          : told(await origin.get(repository, inner, key, options));
      }
      if (!closed.allows(closedName(peer.name, repository)) || !penalties.allows(peer.name)) continue;
      const answer = await ask(peer, key, shared, options);
      if (answer === 'ask-bucket') break;
      if (answer !== 'ask-next') return answer;
      tries += 1;
      if (tries === TRIES) break;
    }
    return await inner.get(key, options);
  }

  async function ask(
    peer: Peer,
    key: string,
    shared: SharedKey,
    options: GetOptions,
  ): Promise<BucketObject | 'ask-next' | 'ask-bucket'> {
    const began = penalties.now();
    let answer: BucketObject | Refusal;
    try {
      answer = await client.get(peer.name, repository, key, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof NeighbourFault)) throw error;
      passOver(peer.name, began, error);
      return 'ask-next';
    }
    if (typeof answer === 'string') {
      if (answer === 'not-open') closed.failed(closedName(peer.name, repository), began);
      else if (answer === 'self') peers.isSelf(peer.name);
      if (answer !== 'busy') penalties.succeeded(peer.name);
      return answer === 'ask-bucket' ? 'ask-bucket' : 'ask-next';
    }
    closed.succeeded(closedName(peer.name, repository));
    givers.set(key, peer.name);
    const { body } = answer;
    const object = told({
      ...answer,
      body: closing(resuming(peer, key, answer, options, began), () => void body[Symbol.asyncIterator]().return?.()),
    });
    return isSmall(shared.kind) && options.range === undefined ? await whole(peer, key, shared, object) : object;
  }

  /** The neighbour's bytes; where they break off, the bucket's. */
  async function* resuming(
    peer: Peer,
    key: string,
    { body, ...info }: BucketObject,
    { range, signal }: GetOptions,
    began: number,
  ): AsyncGenerator<Buffer> {
    const { offset, length } = range ?? { offset: 0, length: info.size };
    let done = 0;
    let ended = false;
    try {
      for await (const block of body) {
        done += block.length;
        sharing.onReceived(block.length);
        // Said before the last block is given: who has all that he wants asks for no more.
        if (done === length) penalties.succeeded(peer.name);
        yield block;
      }
      ended = true;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof NeighbourFault)) throw error;
      passOver(peer.name, began, error);
    } finally {
      tell('neighbour', began, done, done < length);
    }
    if (ended) return;
    const resumed = performance.now();
    const rest = { offset: offset + done, length: length - done };
    const from = done;
    try {
      const { body: more } = await restOf(key, info, rest, signal);
      for await (const block of more) {
        done += block.length;
        yield block;
      }
    } finally {
      tell('bucket', resumed, done - from, done < length);
    }
  }

  async function restOf(
    key: string,
    { etag }: ObjectInfo,
    range: { readonly offset: number; readonly length: number },
    signal: AbortSignal | undefined,
  ): Promise<BucketObject> {
    try {
      return await inner.get(key, { range, ifMatch: etag, signal });
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
      throw new UnavailableError(`${key} in ${inner.name} was changed or removed while it was read`, {
        cause: error,
        facts: { key },
      });
    }
  }

  /** Read at once, and checked where its name tells what it must be. */
  async function whole(
    peer: Peer,
    key: string,
    { kind, digest }: SharedKey,
    object: BucketObject,
  ): Promise<BucketObject | 'ask-bucket'> {
    const parts: Buffer[] = [];
    for await (const part of object.body) parts.push(part);
    const bytes = Buffer.concat(parts);
    if (kind === 'segments') {
      try {
        unsealSegment(digest, bytes);
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        doubt(key, peer.name);
        return 'ask-bucket';
      }
    }
    return told({ ...object, body: given(bytes) });
  }

  function doubt(key: string, giver: string | undefined): void {
    wrong.set(key, true);
    if (giver !== undefined) passOver(giver, penalties.now(), new Error(`${giver} gave other bytes than ${key} has`));
  }

  function passOver(peer: string, began: number, error: Error): void {
    penalties.failed(peer, began);
    sharing.onFault(error);
  }

  function tell(from: 'neighbour' | 'bucket', began: number, bytes: number, failed: boolean): void {
    const milliseconds = performance.now() - began;
    publish('fetched', { cache: sharing.cache, repository, from, bytes, milliseconds, failed });
  }

  const wrapped: Bucket = {
    name: inner.name,
    get,
    head: (key, signal) => inner.head(key, signal),
    put: (key, body, options) => inner.put(key, body, options),
    list: (prefix, options) => inner.list(prefix, options),
    delete: (key, options) => inner.delete(key, options),
    close: () => inner.close(),
  };
  onDistrust(wrapped, (key) => {
    sharing.drop(`${repository}/${key}`);
    doubt(key, givers.get(key));
    givers.delete(key);
  });
  return requestsOf(inner) === undefined ? wrapped : metered(wrapped, inner);
}

/** A neighbour that does not have a repository open. */
export function closedName(peer: string, repository: string): string {
  return `${peer} ${repository}`;
}

function metered(wrapped: Bucket, inner: Bucket): MeteredBucket {
  return Object.defineProperty(wrapped as MeteredBucket, 'requests', {
    get: () => requestsOf(inner),
    enumerable: true,
  });
}

/** `fetched` is published of it here, where it is known what came from whom. */
function told(object: BucketObject): BucketObject & FromNeighbour {
  return { ...object, neighbour: true };
}

function isSmall(kind: SharedKind): boolean {
  return kind !== 'packs';
}

async function* given(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
