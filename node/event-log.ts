import { type CacheEvent, type CacheEvents, subscribe } from '../cache/events.ts';
import { CorruptError } from '../dataset/errors.ts';
import type { LogFields, Logger } from './log.ts';

export interface EventLogOptions {
  readonly log: Logger;
  /** The cache's directory: what happens in another is not ours. */
  readonly cache: string;
  /** What is known of a version. */
  readonly about: (version: string) => LogFields;
  /** A staged version that has an object. */
  readonly versionOf: (id: string) => string | undefined;
}

export interface EventLog extends Disposable {
  /** An open or a read ended with EIO. */
  readonly onFailure: (id: string, error: unknown) => void;
  /** How many did in the last minute, and the last of them; undefined where none did. */
  recentFailures(): { readonly count: number; readonly latest: string } | undefined;
}

/** How far back failures are remembered, in milliseconds, and how many of them: that these were too many is told as well. */
const RECENT = 60_000;
const MOST = 10_000;

/**
 * What a failed open is to the limiter. A bucket that is away fails thousands of them, and all are one; what is damaged or has changed is
 * told of each object, since somebody must do something about each.
 */
function kindOf(id: string, error: unknown): string {
  return error instanceof CorruptError ? `open ${id}` : 'open';
}

/** Writes down what goes wrong in a cache, and what it does on its own. */
export function createEventLog({ log, cache, about, versionOf }: EventLogOptions): EventLog {
  const ends: (() => void)[] = [];
  const hear = <E extends CacheEvent>(event: E, heard: (message: CacheEvents[E]) => void) => {
    ends.push(subscribe(event, (message) => message.cache === cache && heard(message)));
  };
  const fieldsOf = (version: string | undefined): LogFields => (version === undefined ? {} : about(version));
  const failures: { readonly at: number; readonly message: string }[] = [];
  const recent = () => {
    const since = performance.now() - RECENT;
    while (failures.length > 0 && failures[0]!.at < since) failures.shift();
    return failures;
  };

  hear('missed', ({ id, version, outcome, bytes, began, ended }) => {
    if (!log.writes('debug')) return;
    const milliseconds = Math.round(ended - began);
    log.debug(`object ${id} was waited for: ${outcome}`, { ...fieldsOf(version), object: id, bytes, milliseconds });
  });
  hear('fetched', ({ failed, from, repository, milliseconds }) => {
    if (!failed) return;
    const facts = { from, repositoryId: repository, milliseconds: Math.round(milliseconds) };
    log.info(`a read of a ${from} failed, and may be tried again`, { ...facts, repeats: `read ${from} ${repository}` });
  });
  hear('evicted', ({ objects, bytes }) => log.info(`evicted ${objects} objects`, { objects, bytes }));
  hear('damaged', ({ id, by }) => {
    log.error(`object ${id} was damaged on the disk, and is put aside`, { object: id, by, repeats: 'damaged' });
  });
  hear('healed', ({ id }) => log.info(`object ${id} is whole again`, { object: id, repeats: 'healed' }));

  return {
    onFailure(id, error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = reason.includes(id) ? reason : `object ${id} did not come: ${reason}`;
      log.warn(message, { ...fieldsOf(versionOf(id)), object: id, error, repeats: kindOf(id, error) });
      if (recent().length >= MOST) failures.shift();
      failures.push({ at: performance.now(), message });
    },
    recentFailures() {
      const latest = recent().at(-1);
      return latest && { count: failures.length, latest: latest.message };
    },
    [Symbol.dispose]() {
      for (const end of ends) end();
    },
  };
}
