import { join } from 'node:path';
import { expect } from 'vitest';
import type { Repository } from '../../dataset/repository.ts';
import { type Cache, openCache } from '../cache.ts';
import { createHydrator, type Hydrator } from '../hydrate.ts';
import { createRoom } from '../room.ts';
import {
  type BuiltVersion,
  buildVersion,
  type CountingBucket,
  countingBucket,
  type FileOf,
  temporaryRepository,
} from '../staged.fixture.ts';
import { createStreams, type StreamedFile, type Streams, type StreamsOptions } from './streams.ts';

/** Where a test's numbers come from. */
interface Random {
  below(limit: number): number;
  oneIn(n: number): boolean;
  bytes(length: number): Buffer;
}

/** A node's cache with streams, on a version in a repository in a directory. */
export interface StreamRig extends AsyncDisposable {
  readonly bucket: CountingBucket;
  readonly version: BuiltVersion;
  readonly folder: string;
  /** What there is of the daemon now. */
  cache: Cache;
  hydrator: Hydrator;
  streams: Streams;
  readonly warnings: string[];
  open(path: string): Promise<StreamedFile>;
  bytes(path: string): Buffer;
  /** Lets go of the cache, for another process. */
  stop(): Promise<void>;
  /** Another daemon on the same cache. */
  restart(options?: RigOptions): Promise<void>;
}

export interface RigOptions extends Partial<StreamsOptions> {
  /** In bytes; without a limit if not said. */
  readonly roomBytes?: number;
  readonly bootId?: string;
  /** Of the cache; one of its own if not said. */
  readonly directory?: string;
}

export interface RigRepository {
  /** Size of a pack, in bytes. */
  readonly target?: number;
  /** Where versions are written, and by what they are read; a directory of its own if not said. */
  readonly repository?: Repository;
  readonly reads?: Repository;
}

export async function streamRig(
  files: Readonly<Record<string, FileOf>>,
  options: RigOptions = {},
  { target, repository, reads }: RigRepository = {},
): Promise<StreamRig> {
  const temporary = await temporaryRepository();
  const bucket = countingBucket((reads ?? repository ?? temporary.repository).bucket);
  const built = await buildVersion(repository ?? temporary.repository, files, { target });
  const version = { ...built, staged: { ...built.staged, repository: { ...built.staged.repository, bucket } } };
  const warnings: string[] = [];

  const start = async ({ roomBytes, bootId, directory, ...more }: RigOptions) => {
    const room = createRoom(roomBytes);
    const cache = await openCache({ directory: directory ?? join(temporary.folder, 'cache'), bootId });
    const hydrator = createHydrator({ cache, threads: 1, streamOver: 0, room });
    hydrator.register(version.staged);
    const streams = createStreams({
      cache,
      crew: hydrator.crew,
      locate: hydrator.locate,
      isStaged: hydrator.knows,
      room,
      patience: 3_000,
      onWarning: (message) => warnings.push(message),
      ...more,
    });
    return { cache, hydrator, streams };
  };
  let running = true;
  const stop = async () => {
    if (!running) return;
    running = false;
    await rig.streams.close();
    await rig.hydrator.close();
    await rig.cache.close();
  };
  const rig: StreamRig = {
    ...(await start(options)),
    bucket,
    version,
    folder: temporary.folder,
    warnings,
    stop,
    open: async (path) => (await rig.streams.open(version.files.get(path)!.id))!,
    bytes: (path) => version.files.get(path)!.bytes,
    restart: async (again = options) => {
      await stop();
      Object.assign(rig, await start(again));
      running = true;
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
      await temporary[Symbol.asyncDispose]();
    },
  };
  return rig;
}

/** A file of so many parts: chunks of up to `most` bytes, and a hole here and there. */
export function partsOf(random: Random, count: number, most: number): (Buffer | number)[] {
  const parts: (Buffer | number)[] = [];
  for (let at = 0; at < count; at += 1) {
    const hole = typeof parts.at(-1) === 'object' && at < count - 1 && random.oneIn(8);
    parts.push(hole ? 1 + random.below(most) : random.bytes(1 + random.below(most)));
  }
  return parts;
}

/** Reads at random, and expects the bytes that are there. */
export async function readAtRandom(file: StreamedFile, bytes: Buffer, random: Random, times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    const offset = random.below(bytes.length + 10);
    const length = 1 + random.below(random.oneIn(4) ? 400_000 : 5_000);
    const got = await file.read(offset, length);
    if (Buffer.compare(got, bytes.subarray(offset, offset + length)) !== 0) {
      throw new Error(`${got.length} bytes from ${offset} are not those of the file`);
    }
  }
}

/** Reads all of it in order. */
export async function readInOrder(file: StreamedFile, bytes: Buffer, step: number): Promise<void> {
  for (let offset = 0; offset < bytes.length; offset += step) {
    const there = bytes.subarray(offset, offset + step);
    const got = await file.read(offset, there.length);
    expect(Buffer.compare(got, there), `${step} bytes from ${offset}`).toBe(0);
  }
}

/** What another thread reads by itself where the bits say that it may: all of that must be right. */
export function expectLocalRight(file: StreamedFile, bytes: Buffer, readAt: ReadAt): number {
  const { local } = file;
  if (!local) return 0;
  const bits = new Uint8Array(local.present);
  let right = 0;
  for (let block = 0; block * local.block < bytes.length; block += 1) {
    if ((Atomics.load(bits, block >>> 3) & (1 << (block & 7))) === 0) continue;
    const from = block * local.block;
    const there = bytes.subarray(from, from + local.block);
    const got = Buffer.alloc(there.length);
    readAt(local.fd, got, from);
    expect(Buffer.compare(got, there), `block ${block}`).toBe(0);
    right += 1;
  }
  return right;
}

type ReadAt = (descriptor: number, into: Buffer, position: number) => void;

export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come to pass within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
