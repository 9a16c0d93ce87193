import { afterEach, expect, it, vi } from 'vitest';
import { type CacheEvents, publish } from '../cache/events.ts';
import type { Digest } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { createEventLog, type EventLog } from './event-log.ts';
import { createLogger, type LogLevel } from './log.ts';

const cache = '/cache';
const id = 'aa'.padEnd(64, '0') as Digest;
const version = 'bb'.padEnd(64, '0') as Digest;

const wanted = 'cc'.padEnd(64, '0');

let events: EventLog | undefined;
afterEach(() => events?.[Symbol.dispose]());

function start(level: LogLevel = 'info') {
  const records: Record<string, unknown>[] = [];
  const write = (text: string) => records.push(JSON.parse(text));
  const log = createLogger({ format: 'json', level, component: 'node', write });
  const about = (version: string) => ({ version, dataset: 'emoji', volume: 'pvc-7' });
  const made = createEventLog({
    log,
    cache,
    about,
    versionOf: (id) => (id === wanted ? version : undefined),
  });
  events = made;
  return { records, log, events: made };
}

function missed(outcome: CacheEvents['missed']['outcome'], milliseconds: number, error?: unknown) {
  publish('missed', { cache, id, version, outcome, began: 1000, ended: 1000 + milliseconds, error });
}

it('tells an open that failed with the volume, the dataset and the version that it was of', () => {
  const { records, events } = start();
  const error = new UnavailableError('the bucket is away');
  missed('failed', 59_000, error);
  events.onFailure(wanted, error);
  expect(records).toMatchObject([
    {
      level: 'warn',
      message: `object ${wanted} did not come: the bucket is away`,
      volume: 'pvc-7',
      dataset: 'emoji',
      version,
      object: wanted,
      error: { kind: 'unavailable' },
    },
  ]);
});

it('tells once a minute that a bucket is away, however many opens fail', () => {
  const { records, log, events } = start();
  for (let open = 0; open < 5000; open += 1) events.onFailure(id, new UnavailableError(`failure ${open}`));
  expect(records).toHaveLength(1);
  (log as unknown as Disposable)[Symbol.dispose]();
  expect(records.slice(1)).toMatchObject([{ message: expect.stringContaining('failure 4999'), leftOut: 4998 }]);
});

it('remembers for a minute what failed', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const { events } = start();
  expect(events.recentFailures()).toBeUndefined();
  events.onFailure(id, new UnavailableError('first'));
  vi.advanceTimersByTime(40_000);
  events.onFailure(id, new UnavailableError('second'));
  expect(events.recentFailures()).toEqual({ count: 2, latest: expect.stringContaining('second') });
  vi.advanceTimersByTime(40_000);
  expect(events.recentFailures()?.count).toBe(1);
  vi.advanceTimersByTime(40_000);
  expect(events.recentFailures()).toBeUndefined();
  vi.useRealTimers();
});

it('tells each miss to who asks for all', () => {
  const { records } = start('debug');
  missed('ready', 50);
  expect(records).toMatchObject([{ level: 'debug', volume: 'pvc-7', milliseconds: 50 }]);
});

it('tells what was damaged, healed and evicted', () => {
  const { records } = start();
  publish('damaged', { cache, id, by: 'scrub' });
  publish('healed', { cache, id });
  publish('evicted', { cache, objects: 7, bytes: 700 });
  publish('evicted', { cache: '/another', objects: 7, bytes: 700 });
  expect(records).toMatchObject([
    { level: 'error', by: 'scrub', object: id },
    { level: 'info', object: id },
    { level: 'info', objects: 7, bytes: 700 },
  ]);
});
