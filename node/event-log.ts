import { type CacheEvent, type CacheEvents, subscribe } from '../cache/events.ts';
import type { LogFields, Logger } from './log.ts';

export interface EventLogOptions {
  readonly log: Logger;
  /** The cache's directory: what happens in another is not ours. */
  readonly cache: string;
  /** What is known of a version. */
  readonly about: (version: string) => LogFields;
  /** A staged version that has an object. */
  readonly versionOf: (id: string) => string | undefined;
  /** How long an open waits, in milliseconds. */
  readonly deadline: number;
}

export interface EventLog extends Disposable {
  /** An open or a read ended with EIO. */
  readonly onFailure: (id: string, error: unknown) => void;
}

/** All that failed opens are to the limiter: a bucket that is away fails thousands of them. */
const OPENS = 'open';

/** Writes down what goes wrong in a cache, and what it does on its own. */
export function createEventLog({ log, cache, about, versionOf, deadline }: EventLogOptions): EventLog {
  const ends: (() => void)[] = [];
  const hear = <E extends CacheEvent>(event: E, heard: (message: CacheEvents[E]) => void) => {
    ends.push(subscribe(event, (message) => message.cache === cache && heard(message)));
  };
  const fieldsOf = (version: string | undefined): LogFields => (version === undefined ? {} : about(version));
  /** The ring knows the object only. */
  const missesOf = new WeakMap<object, CacheEvents['missed']>();

  hear('missed', (miss) => {
    const { id, version, outcome, error, bytes, began, ended } = miss;
    const milliseconds = Math.round(ended - began);
    if (outcome === 'failed' && error instanceof Error) missesOf.set(error, miss);
    else if (isExpired(miss, deadline)) {
      const text = `object ${id} did not come within ${Math.round(milliseconds / 1000)} s: its opens ended with EIO`;
      log.warn(text, { ...fieldsOf(version), object: id, repeats: OPENS });
    } else if (log.writes('debug')) {
      log.debug(`object ${id} was waited for: ${outcome}`, { ...fieldsOf(version), object: id, bytes, milliseconds });
    }
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
      const miss = error instanceof Error ? missesOf.get(error) : undefined;
      const message = error instanceof Error ? error.message : String(error);
      const text = message.includes(id) ? message : `object ${id} did not come: ${message}`;
      log.warn(text, { ...fieldsOf(miss?.version ?? versionOf(id)), object: id, error, repeats: OPENS });
    },
    [Symbol.dispose]() {
      for (const end of ends) end();
    },
  };
}

/** Whether a wait ended by its deadline: the ring then leaves, as it does when the reader is killed. */
export function isExpired({ outcome, began, ended }: CacheEvents['missed'], deadline: number): boolean {
  return outcome === 'abandoned' && ended - began >= deadline * 0.95;
}
