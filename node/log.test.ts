import { describe, expect, it, vi } from 'vitest';
import { UnavailableError } from '../dataset/errors.ts';
import { createLogger, type LogLevel } from './log.ts';

const version = '0011aabbccdd'.padEnd(64, '0');

function logTo(format: 'text' | 'json', level: LogLevel = 'info') {
  const lines: string[] = [];
  const log = createLogger({ format, level, component: 'node', write: (text) => lines.push(text) });
  return { log, lines, records: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('a daemon’s log', () => {
  it('has one JSON document a line, with what the line is about', () => {
    const { log, records } = logTo('json');
    log.with({ volume: 'pvc-7', dataset: 'emoji' }).warn('it did not come', { version });
    const [record] = records();
    expect(record).toMatchObject({
      level: 'warn',
      message: 'it did not come',
      component: 'node',
      pid: process.pid,
      volume: 'pvc-7',
      dataset: 'emoji',
      version,
    });
    expect(new Date(record?.time as string).getFullYear()).toBeGreaterThan(2024);
  });

  it('is text for people, ids cut short', () => {
    const { log, lines } = logTo('text');
    log.info('serving', { version, dataset: 'deep sea' });
    expect(lines).toEqual([expect.stringMatching(/^\S+Z info {2}serving version=0011aabbccdd dataset="deep sea"\n$/)]);
  });

  it('has one line a message, whatever names are in it', () => {
    const { log, lines } = logTo('text');
    log.warn("no 'a\n2026-01-01T00:00:00Z error forged'", { dataset: 'x\ny' });
    expect(lines.join('').split('\n')).toEqual([expect.stringContaining(String.raw`'a\n2026`), '']);
  });

  it('leaves out what is below its level', () => {
    const { log, lines } = logTo('text', 'warn');
    log.info('nobody asked');
    log.error('this');
    expect(lines).toHaveLength(1);
    expect([log.writes('info'), log.writes('error')]).toEqual([false, true]);
  });

  it('tells kind and facts of an error of ours, and the stack of one that nobody thought of', () => {
    const { log, records, lines } = logTo('json');
    log.error('no', { error: new UnavailableError('away', { facts: { bucket: 'b' } }) });
    log.error('no', { error: new TypeError('x is not a function') });
    expect(records()[0]?.error).toEqual({ kind: 'unavailable', message: 'away', facts: { bucket: 'b' } });
    expect(records()[1]?.error).toMatchObject({ stack: expect.stringContaining('log.test.ts') });
    expect(lines).toHaveLength(2);
  });

  it('tells a failure that repeats once a minute, with how many were left out and the latest', () => {
    vi.useFakeTimers();
    const { log, records } = logTo('json');
    for (let object = 0; object < 500; object += 1) log.warn(`object ${object} did not come`, { repeats: 'object' });
    log.warn('another kind', { repeats: 'disk' });
    expect(records().map(({ message }) => message)).toEqual(['object 0 did not come', 'another kind']);
    vi.advanceTimersByTime(60_000);
    expect(records().slice(2)).toMatchObject([{ message: 'object 499 did not come', leftOut: 498 }]);
    vi.advanceTimersByTime(60_000);
    log.warn('object 500 did not come', { repeats: 'object' });
    expect(records().slice(3)).toMatchObject([{ message: 'object 500 did not come' }]);
    expect(records()[3]).not.toHaveProperty('leftOut');
    vi.useRealTimers();
  });

  it('tells at its end what it had left out', () => {
    const { log, records } = logTo('json');
    for (const at of [1, 2, 3]) log.warn(`failure ${at}`, { repeats: 'failure' });
    log[Symbol.dispose]();
    expect(records().map(({ message, leftOut }) => [message, leftOut])).toEqual([
      ['failure 1', undefined],
      ['failure 3', 1],
    ]);
  });
});
