import type { Digest } from '../digest.ts';
import type { Repository } from '../repository.ts';
import { Pool } from '../threads/pool.ts';
import type { VerifiedPack, VerifyTask } from './worker.ts';

/** What reading packs back has found. */
export interface PackFaults {
  /** What is wrong with packs as a whole: none of their chunks can be told apart. */
  readonly packs: ReadonlyMap<Digest, string>;
  /** By pack, the faults of its chunks. */
  readonly chunks: ReadonlyMap<Digest, ReadonlyMap<Digest, string>>;
  /** Whether these packs were read back; all, if that is what was asked for. */
  wasRead(pack: Digest): boolean;
}

export const NOTHING_READ: PackFaults = { packs: new Map(), chunks: new Map(), wasRead: () => false };

/** Reads packs back and checks each of their chunks, on threads. */
export async function readPacks(
  { location }: Repository,
  packs: Iterable<Digest>,
  options: {
    readonly wasRead: (pack: Digest) => boolean;
    readonly onPack?: (pack: Digest) => void;
    readonly signal?: AbortSignal;
  },
): Promise<PackFaults> {
  const { wasRead, onPack, signal } = options;
  const found = { packs: new Map<Digest, string>(), chunks: new Map<Digest, ReadonlyMap<Digest, string>>(), wasRead };
  await using pool = new Pool<VerifyTask, VerifiedPack>({
    module: new URL('./worker.ts', import.meta.url),
    data: { repository: location },
  });
  const left = packs[Symbol.iterator]();
  const work = async () => {
    for (let next = left.next(); !next.done; next = left.next()) {
      const pack = next.value;
      signal?.throwIfAborted();
      const { fault, chunks } = await pool.run({ pack }).result;
      if (fault !== undefined) found.packs.set(pack, fault);
      if (chunks.length > 0) found.chunks.set(pack, new Map(chunks.map((chunk) => [chunk.id, chunk.fault])));
      onPack?.(pack);
    }
  };
  await Promise.all(Array.from({ length: pool.size * 2 }, work));
  return found;
}
