import type { Bucket, BucketObject, GetOptions, ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { ConflictError, InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { abortable } from '../../system/abortable.ts';
import { BLOCK_BYTES, blocksOf } from './blocks.ts';
import { checkStored } from './check-stored.ts';
import { closing } from './closing.ts';
import type { Store, Use } from './store.ts';
import { type StoredObject, StoreFault } from './stored-object.ts';
import { sharedKey } from './wire.ts';

/** Written at a time, in bytes: a number of blocks. */
const WRITE_BYTES = 4 * BLOCK_BYTES;

/** A bucket, as far as it is read here. */
export type Source = Pick<Bucket, 'get' | 'head' | 'name'>;

type Range = GetOptions['range'];

type Placed = Use | BucketObject | undefined;

/** What became of the first who asked for an object. */
type Begun = 'there' | 'full';

export interface OriginOptions {
  readonly store: Store;
  readonly onWarning: (message: string) => void;
  /** A read of the bucket has ended. */
  readonly onFetched: (repository: string, read: { bytes: number; began: number; failed: boolean }) => void;
}

/**
 * Reads packs and segments through the store: each block is fetched from the bucket once, whoever and how many ask for it, and is
 * given on as it comes. What is asked for whole is one read of the bucket; of what is asked for by ranges, only those are fetched.
 */
export interface Origin {
  /** As a bucket's `get`. */
  get(repository: string, bucket: Source, key: string, options?: GetOptions): Promise<BucketObject>;
  /** Ends the reads that are under way. */
  close(): Promise<void>;
}

export function createOrigin({ store, onWarning, onFetched }: OriginOptions): Origin {
  const beginning = new Map<string, Promise<Begun>>();
  const fills = new Set<Promise<void>>();
  const stopping = new AbortController();

  /** The object's place in the store; where it is new, what is asked for is on its way. Undefined where there is no room. */
  async function place(name: string, bucket: Source, key: string, range: Range): Promise<Placed> {
    for (;;) {
      const there = await store.use(name);
      if (there !== undefined) return there;
      const other = beginning.get(name);
      if (other === undefined) break;
      if ((await other) === 'full') return undefined;
    }
    const making = begin(name, bucket, key, range);
    const begun = making.then((placed) => (placed !== undefined && 'object' in placed ? 'there' : 'full'));
    begun.catch(() => {});
    beginning.set(name, begun);
    try {
      return await making;
    } finally {
      beginning.delete(name);
    }
  }

  /** An object of the bucket, where the whole was opened before there turned out to be no room for it. */
  async function begin(name: string, bucket: Source, key: string, range: Range): Promise<Placed> {
    const { signal } = stopping;
    const began = performance.now();
    const blocks = range && blocksAround(range);
    let opened: BucketObject;
    try {
      opened = await bucket.get(key, { range: blocks, signal });
    } catch (error) {
      if (blocks === undefined || !(error instanceof InvalidError)) throw error;
      // The last block is shorter than others, and only the object's size tells by how much.
      const info = await bucket.head(key, signal);
      if (info === undefined) throw new NotFoundError(`there is no ${key} in ${bucket.name}`, { facts: { key } });
      return await store.create(name, info);
    }
    const { body, ...info } = opened;
    let use: Use | undefined;
    try {
      use = await store.create(name, info);
    } catch (error) {
      await leave(body);
      throw error;
    }
    if (use === undefined) {
      if (blocks === undefined) return opened;
      await leave(body);
      return undefined;
    }
    const { object } = use;
    const from = (blocks?.offset ?? 0) / BLOCK_BYTES;
    const to = blocks === undefined ? object.blocks.count : from + blocks.length / BLOCK_BYTES;
    object.blocks.claim(from, to);
    start(name, { bucket, key, object, from, to, began, body });
    return use;
  }

  interface Fill {
    readonly bucket: Source;
    readonly key: string;
    readonly object: StoredObject;
    /** Blocks, claimed. */
    readonly from: number;
    readonly to: number;
    readonly began: number;
    /** Where it is open already. */
    readonly body?: AsyncIterable<Buffer>;
  }

  /** Fetches blocks in the background. */
  function start(name: string, fill: Fill): void {
    const work = run(name, fill).finally(() => fills.delete(work));
    fills.add(work);
  }

  async function run(name: string, { bucket, key, object, from, to, began, body }: Fill): Promise<void> {
    const start = from * BLOCK_BYTES;
    const end = Math.min(to * BLOCK_BYTES, object.info.size);
    let bytes = 0;
    let failed = true;
    // Its file must not be closed under it.
    using _use = await store.use(name);
    try {
      const source = body ?? (await rangeOf(bucket, key, object.info, start, end));
      const buffer = Buffer.allocUnsafeSlow(Math.min(WRITE_BYTES, end - start));
      let filled = 0;
      for await (const part of source) {
        for (let at = 0; at < part.length; ) {
          const count = part.copy(buffer, filled, at);
          at += count;
          filled += count;
          bytes += count;
          if (filled < buffer.length && start + bytes < end) continue;
          await object.write((start + bytes - filled) / BLOCK_BYTES, buffer.subarray(0, filled));
          filled = 0;
        }
      }
      if (bytes < end - start) throw new Error(`${bytes} bytes of ${end - start} came`);
      failed = false;
    } catch (error) {
      object.giveUp(from, to, error);
      // Another object has that name by now, or the disk does not take it.
      if (error instanceof ConflictError || error instanceof StoreFault) store.drop(name, object);
      if (error instanceof StoreFault) onWarning(`what is kept for neighbours could not be written: ${error.message}`);
    }
    onFetched(repositoryOf(name), { bytes, began, failed });
    if (!failed && object.blocks.whole) await keep(name, key, object);
  }

  async function keep(name: string, key: string, object: StoredObject): Promise<void> {
    try {
      await checkStored(sharedKey(key)!, object);
      await store.keep(name, object);
    } catch (error) {
      store.drop(name, object);
      onWarning(`${key} is not kept for neighbours: ${(error as Error).message}`);
    }
  }

  async function* read(
    name: string,
    bucket: Source,
    key: string,
    object: StoredObject,
    { offset, length }: { readonly offset: number; readonly length: number },
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const end = offset + length;
    const failures = object.failures;
    let at = offset;
    try {
      while (at < end) {
        signal?.throwIfAborted();
        const block = Math.floor(at / BLOCK_BYTES);
        const state = object.blocks.state(block);
        if (state === 'present') {
          const bytes = await object.read(at, end);
          at += bytes.length;
          yield bytes;
        } else if (state === 'claimed') {
          await object.changed(signal);
        } else {
          if (object.failures !== failures) throw object.failure;
          const to = object.blocks.runEnd(block, blocksOf(end));
          object.blocks.claim(block, to);
          start(name, { bucket, key, object, from: block, to, began: performance.now() });
        }
      }
      return;
    } catch (error) {
      if (!(error instanceof StoreFault)) throw error;
      store.drop(name, object);
    }
    const began = performance.now();
    yield* counted(name, began, await rangeOf(bucket, key, object.info, at, end, signal), end - at);
  }

  async function* counted(
    name: string,
    began: number,
    body: AsyncIterable<Buffer>,
    expected: number,
  ): AsyncGenerator<Buffer> {
    let bytes = 0;
    try {
      for await (const part of body) {
        bytes += part.length;
        yield part;
      }
    } finally {
      onFetched(repositoryOf(name), { bytes, began, failed: bytes < expected });
    }
  }

  return {
    async get(repository, bucket, key, { range, ifMatch, signal } = {}) {
      const name = `${repository}/${key}`;
      const placed = await abortablePlace(place(name, bucket, key, range), signal);
      if (placed === undefined || 'body' in placed) {
        const began = performance.now();
        if (placed !== undefined && ifMatch !== undefined) await leave(placed.body);
        const object =
          placed === undefined || ifMatch !== undefined ? await bucket.get(key, { range, ifMatch, signal }) : placed;
        const body = counted(name, began, object.body, range?.length ?? object.size);
        return { ...object, body: closing(body, () => void leave(object.body)) };
      }
      const use = placed;
      const { object } = use;
      const { info } = object;
      const wanted = range ?? { offset: 0, length: info.size };
      const fault =
        ifMatch !== undefined && ifMatch !== info.etag
          ? new ConflictError(`${key} in ${bucket.name} is another object`, { facts: { key } })
          : wanted.offset + wanted.length > info.size
            ? new InvalidError(`${key} in ${bucket.name} has ${info.size} bytes`, { facts: { key, size: info.size } })
            : undefined;
      if (fault !== undefined) {
        use[Symbol.dispose]();
        throw fault;
      }
      return {
        ...info,
        body: closing(read(name, bucket, key, object, wanted, signal), () => use[Symbol.dispose]()),
      };
    },

    async close() {
      stopping.abort(new Error('the store for neighbours is closing'));
      await Promise.allSettled([...fills, ...beginning.values()]);
    },
  };

  async function rangeOf(
    bucket: Source,
    key: string,
    { etag }: ObjectInfo,
    from: number,
    to: number,
    signal: AbortSignal = stopping.signal,
  ): Promise<AsyncIterable<Buffer>> {
    const range = { offset: from, length: to - from };
    return (await bucket.get(key, { range, ifMatch: etag, signal })).body;
  }
}

/** Whoever stops waiting for a place in the store gives it back when it comes. */
async function abortablePlace(placing: Promise<Placed>, signal: AbortSignal | undefined): Promise<Placed> {
  try {
    return await abortable(placing, signal);
  } catch (error) {
    placing
      .then((placed) => {
        if (placed === undefined) return;
        if ('body' in placed) void leave(placed.body);
        else placed[Symbol.dispose]();
      })
      .catch(() => {});
    throw error;
  }
}

/** The whole blocks that have a range. */
function blocksAround({ offset, length }: NonNullable<Range>): NonNullable<Range> {
  const from = offset - (offset % BLOCK_BYTES);
  return { offset: from, length: blocksOf(offset + length - from) * BLOCK_BYTES };
}

/** A body that nobody reads gives its connection back. */
async function leave(body: AsyncIterable<Buffer>): Promise<void> {
  await body[Symbol.asyncIterator]().return?.();
}

function repositoryOf(name: string): string {
  return name.slice(0, name.indexOf('/'));
}
