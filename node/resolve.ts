import type { Cache } from '../cache/cache.ts';
import type { Hydrator } from '../cache/hydrate.ts';
import type { Streams } from '../cache/stream/streams.ts';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import type { Reopen, Resolve } from '../mount/fuse/ring-file.ts';
import { afterRecovery, type Recovery } from './recovery.ts';

export interface ResolverParts {
  readonly recovery: Pick<Recovery, 'next'>;
  readonly cache: Cache;
  readonly hydrator: Hydrator;
  readonly streams: Streams;
}

/** What the ring asks, answered by the cache: an object is brought into place, or read from a stream. */
export function createResolver(parts: ResolverParts): { readonly resolve: Resolve; readonly reopen: Reopen } {
  const { recovery, cache, hydrator, streams } = parts;
  const open = async (id: string, signal: AbortSignal) => (await streams.open(id as Digest, signal)) ?? 'absent';
  const reopen = afterRecovery(recovery, open);
  return {
    resolve: afterRecovery(recovery, async (id, signal) => {
      for (;;) {
        const outcome = await hydrator.hydrate(id as Digest, { signal });
        if (outcome === 'stream') return await open(id, signal);
        if (outcome === 'absent') return outcome;
        try {
          cache.ensureLate(id as Digest);
          return outcome;
        } catch (error) {
          // Evicted between two calls.
          if (!isErrno(error, 'ENOENT')) throw error;
        }
      }
    }),
    async reopen(id, signal) {
      const file = await reopen(id, signal);
      return file === 'absent' ? undefined : file;
    },
  };
}
