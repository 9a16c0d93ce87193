import { setTimeout as sleep } from 'node:timers/promises';
import type { SettingsLedger } from '../ledger.ts';
import { aboutVolume, type Logger } from '../log.ts';
import type { StagedRecord, StagedRecords } from '../records.ts';
import type { Serial } from '../serial.ts';
import type { StagePrefetches } from '../stage-prefetch.ts';
import type { StagedVersions } from '../staging.ts';

export interface SettingsWatchParts {
  readonly records: Pick<StagedRecords, 'all' | 'get' | 'put'>;
  readonly lock: Serial;
  readonly versions: Pick<StagedVersions, 'limit'>;
  readonly prefetches: Pick<StagePrefetches, 'begin'>;
  /** Told that a workspace is to be saved at other times. */
  readonly saves?: { nudge(volume: string): void } | undefined;
  /** Of a repository, by its location. */
  readonly settingsAt: (location: string) => Promise<SettingsLedger>;
  readonly log: Logger;
  /** How often it is looked, in milliseconds. */
  readonly interval?: number;
}

/** Has volumes that are staged take what of their settings was changed in their records. */
export interface SettingsWatch extends AsyncDisposable {
  /** Looks now. */
  look(): Promise<void>;
}

/** With what a look takes, a change has come to every node within half a minute. */
const INTERVAL = 20_000;

export function createSettingsWatch(parts: SettingsWatchParts): SettingsWatch {
  const { records, lock, versions, prefetches, saves, settingsAt, log, interval = INTERVAL } = parts;
  const stopping = new AbortController();
  const { signal } = stopping;
  /** Of each volume's record, what was taken over last. */
  const seen = new Map<string, string>();

  async function take(volume: string, { settings, etag }: Changed): Promise<void> {
    await lock(volume, async () => {
      const before = records.get(volume);
      if (before?.state !== 'staged') return;
      const { prefetch, deadline, bandwidth, autosave } = settings;
      const after: StagedRecord = { ...without(before), ...present({ prefetch, deadline, bandwidth, autosave }) };
      const changed = SETTINGS.filter((name) => before[name] !== after[name]);
      if (changed.length > 0) {
        await records.put(after);
        versions.limit(volume, after);
        if (changed.includes('prefetch')) prefetches.begin(after);
        if (changed.includes('autosave')) saves?.nudge(volume);
        log.info(`volume ${volume} has other settings now: ${changed.map((name) => textOf(name, after)).join(', ')}`, {
          ...aboutVolume(after),
        });
      }
      seen.set(volume, etag);
    });
  }

  async function lookAt(location: string, staged: readonly StagedRecord[]): Promise<void> {
    try {
      const ledger = await settingsAt(location);
      const asked = new Map(staged.map(({ volume }) => [volume, seen.get(volume)]));
      const changed = await ledger.changed(asked, signal);
      await Promise.all([...changed].map(([volume, one]) => take(volume, one)));
    } catch (error) {
      if (signal.aborted) return;
      log.warn(`whether volumes of ${location} have other settings is not known: ${(error as Error).message}`, {
        repository: location,
        error,
        repeats: `settings ${location}`,
      });
    }
  }

  const look = async () => {
    const staged = records.all().filter(({ state, recorded }) => state === 'staged' && recorded);
    for (const volume of seen.keys()) if (!staged.some((record) => record.volume === volume)) seen.delete(volume);
    const byRepository = Map.groupBy(staged, ({ repository }) => repository);
    await Promise.all([...byRepository].map(([location, some]) => lookAt(location, some)));
  };

  const looking = (async () => {
    while (!signal.aborted) {
      // Nodes that were started together do not ask together.
      await sleep(interval * (0.75 + Math.random() / 4), undefined, { signal, ref: false }).catch(() => {});
      if (!signal.aborted) await look();
    }
  })();

  return {
    look,
    async [Symbol.asyncDispose]() {
      stopping.abort(new Error('the daemon ends'));
      await looking;
    },
  };
}

type Changed = Awaited<ReturnType<SettingsLedger['changed']>> extends ReadonlyMap<string, infer One> ? One : never;

const SETTINGS = ['prefetch', 'deadline', 'bandwidth', 'autosave'] as const;

function without(record: StagedRecord): StagedRecord {
  const { prefetch: _1, deadline: _2, bandwidth: _3, autosave: _4, ...rest } = record;
  return rest;
}

function present<T extends object>(members: T): Partial<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function textOf(name: (typeof SETTINGS)[number], record: StagedRecord): string {
  return `${name} ${record[name] ?? 'as by default'}`;
}
