import { expect, it } from 'vitest';
import { NotFoundError } from '../dataset/errors.ts';
import { logged } from './call-log.ts';
import { createLogger } from './log.ts';
import type { CallContext, Handlers } from './server.ts';

const context: CallContext = { signal: new AbortController().signal, onProgress() {} };

function start(handlers: object) {
  const records: Record<string, unknown>[] = [];
  const write = (text: string) => records.push(JSON.parse(text));
  const log = createLogger({ format: 'json', level: 'debug', component: 'node', write });
  const mountedOn = (directory: string) => (directory === '/used' ? { volume: 'pvc-7', dataset: 'emoji' } : {});
  return { records, calls: logged(handlers as Handlers, log, mountedOn) };
}

it('tells of each call what it was about, by what was asked and what was answered', async () => {
  const reply = { volume: 'mount-1', dataset: 'emoji', version: 'ab', directory: '/mnt', kind: 'pinned' };
  const { records, calls } = start({ mount: async () => reply });
  expect(await calls.mount({ name: 'emoji@v1', repository: '/r', directory: '/mnt' }, context)).toBe(reply);
  expect(records).toMatchObject([
    { level: 'info', message: 'mount', name: 'emoji@v1', repository: '/r', volume: 'mount-1', dataset: 'emoji' },
  ]);
  expect(records[0]).toHaveProperty('milliseconds');
});

it('leaves questions to those who ask for them', async () => {
  const { records, calls } = start({ status: async () => ({}), unmount: async () => ({ directory: '/mnt' }) });
  await calls.status({}, context);
  await calls.unmount({ directory: '/mnt' }, context);
  expect(records.map(({ level, method }) => [level, method])).toEqual([
    ['debug', 'status'],
    ['info', 'unmount'],
  ]);
});

it('tells what was mounted where something was unmounted', async () => {
  const { records, calls } = start({ unmount: async () => ({ directory: '/used', unmounted: true, heldBy: [] }) });
  await calls.unmount({ directory: '/used' }, context);
  expect(records).toMatchObject([{ directory: '/used', volume: 'pvc-7', dataset: 'emoji' }]);
});

it('tells why a call failed, and passes that on', async () => {
  const failure = new NotFoundError('no dataset birds');
  const mount = async () => {
    throw failure;
  };
  const { records, calls } = start({ mount });
  await expect(calls.mount({ name: 'birds', repository: '/r', directory: '/mnt' }, context)).rejects.toBe(failure);
  expect(records).toMatchObject([
    { level: 'warn', message: 'mount failed: no dataset birds', name: 'birds', error: { kind: 'not-found' } },
  ]);
});
