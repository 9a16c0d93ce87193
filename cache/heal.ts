import type { Digest } from '../dataset/digest.ts';
import type { Cache } from './cache.ts';
import { publish } from './events.ts';
import { quarantine } from './quarantine.ts';

/** What is done about damaged objects. */
export interface Healer extends AsyncDisposable {
  /** Puts it aside at once, tells of it, and has it brought again where it is wanted. */
  found(id: Digest, by: 'scrub' | 'verify'): void;
  /** Resolves when everything that was found has been brought again, or given up. */
  settled(): Promise<void>;
}

export interface HealerOptions {
  readonly cache: Cache;
  /** Whether a version that is staged has it. Others fetch it when it is asked for. */
  readonly isWanted: (id: Digest) => boolean;
  readonly hydrate: (id: Digest, options: { readonly signal: AbortSignal }) => Promise<string>;
  /** Makes mounts let go of files that they remember: else they read the damaged one on. */
  readonly release: () => Promise<unknown>;
  readonly onWarning: (message: string, error?: unknown) => void;
}

export function createHealer({ cache, isWanted, hydrate, release, onWarning }: HealerOptions): Healer {
  const { directory } = cache.layout;
  const stopping = new AbortController();
  const { signal } = stopping;
  let found: Digest[] = [];
  let healing: Promise<void> | undefined;

  const letGo = async () => {
    try {
      await release();
    } catch (error) {
      onWarning(`mounts may read damaged objects on until they are mounted anew: ${(error as Error).message}`, error);
    }
  };

  const heal = async () => {
    while (found.length > 0 && !signal.aborted) {
      const batch = found;
      found = [];
      // Before they come again: an open then waits for the right one.
      await letGo();
      for (const id of batch.filter(isWanted)) {
        try {
          if ((await hydrate(id, { signal })) === 'ready') publish('healed', { cache: directory, id });
        } catch (error) {
          if (signal.aborted) return;
          onWarning(`damaged object ${id} could not be brought again: ${(error as Error).message}`, error);
        }
      }
      // What was open before is remembered again by its mount when it is closed.
      await letGo();
    }
  };

  const healer: Healer = {
    found(id, by) {
      if (!quarantine(cache, id)) return;
      publish('damaged', { cache: directory, id, by });
      found.push(id);
      healing ??= heal().finally(() => {
        healing = undefined;
      });
    },
    settled: async () => {
      while (healing) await healing;
    },
    [Symbol.asyncDispose]: async () => {
      stopping.abort(new Error('the cache is closing'));
      await healer.settled();
    },
  };
  return healer;
}
