import { setTimeout as sleep } from 'node:timers/promises';
import type { Hydrator, PrefetchProgress } from '../cache/hydrate.ts';
import { isFull } from '../cache/object-writer.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { aboutVolume, type Logger } from './log.ts';
import type { StagedRecord } from './records.ts';
import type { Repositories } from './repositories.ts';
import type { StagedVersions } from './staging.ts';

/** Fetches what volumes say when they are staged, beside everything else. */
export interface StagePrefetches extends AsyncDisposable {
  /** Does what the record says, and nothing where it says nothing. What was begun for the volume before ends. */
  begin(record: StagedRecord): void;
  /** Ends what was begun for a volume. What it fetched stays. */
  end(volume: string): void;
  /** Of a volume that says what to fetch; undefined for others. */
  stateOf(volume: string): StagePrefetch | undefined;
}

export interface StagePrefetch extends PrefetchProgress {
  /** `partial`: there was no room for the rest, or some of it is damaged. */
  readonly state: 'fetching' | 'done' | 'partial';
}

export interface StagePrefetchParts {
  readonly hydrator: Hydrator;
  readonly versions: Pick<StagedVersions, 'withSource'>;
  readonly repositories: Pick<Repositories, 'at'>;
  readonly log: Logger;
}

/** After a failure that may pass, such as a bucket that does not answer, in milliseconds. */
const AGAIN = 60_000;

export function createStagePrefetches(parts: StagePrefetchParts): StagePrefetches {
  const { hydrator, versions, repositories, log } = parts;
  const running = new Map<string, { readonly stopping: AbortController; state: StagePrefetch }>();
  const ended = new Set<Promise<void>>();

  const end = (volume: string) => {
    running.get(volume)?.stopping.abort(new Error('the volume is unstaged'));
    running.delete(volume);
  };

  async function fetch(record: StagedRecord, signal: AbortSignal, tell: (state: StagePrefetch) => void): Promise<void> {
    const { prefetch, version, root } = record;
    const pattern = prefetch === 'all' ? undefined : prefetch;
    let progress: PrefetchProgress = { files: 0, bytes: 0 };
    const onProgress = (next: PrefetchProgress) => {
      progress = next;
      tell({ ...next, state: 'fetching' });
    };
    for (;;) {
      try {
        const repository = await repositories.at(record.repository);
        const task = (source: Parameters<Hydrator['prefetch']>[0]) =>
          hydrator.prefetch(source, { pattern, signal, onProgress });
        const done = await versions.withSource({ repository, version, root }, task, signal);
        tell({ ...done, state: 'done' });
        return;
      } catch (error) {
        if (signal.aborted) return;
        const again = error instanceof UnavailableError && !isFull(error);
        log.warn(`what volume ${record.volume} prefetches is not all there: ${(error as Error).message}`, {
          ...aboutVolume(record),
          repeats: `prefetch ${record.volume}`,
        });
        if (!again) {
          tell({ ...progress, state: 'partial' });
          return;
        }
        await sleep(AGAIN, undefined, { signal, ref: false }).catch(() => {});
        if (signal.aborted) return;
      }
    }
  }

  return {
    begin(record) {
      end(record.volume);
      if (record.prefetch === undefined) return;
      const stopping = new AbortController();
      const one: { stopping: AbortController; state: StagePrefetch } = {
        stopping,
        state: { files: 0, bytes: 0, state: 'fetching' },
      };
      running.set(record.volume, one);
      const tell = (state: StagePrefetch) => {
        one.state = state;
      };
      const fetching = fetch(record, stopping.signal, tell).finally(() => ended.delete(fetching));
      ended.add(fetching);
    },
    end,
    stateOf: (volume) => running.get(volume)?.state,
    async [Symbol.asyncDispose]() {
      for (const volume of running.keys()) end(volume);
      await Promise.all(ended);
    },
  };
}
