import { expect, it } from 'vitest';
import { UnavailableError } from '../dataset/errors.ts';
import { createLogger } from './log.ts';
import { afterRecovery, createRecovery } from './recovery.ts';

const quiet = () => createLogger({ write: () => {}, format: 'json', component: 'test' });
const forever = new AbortController().signal;

it('holds an open while the volume that may have its object is not taken up, and answers it then', async () => {
  using log = quiet();
  using recovery = createRecovery(log);
  const known = new Set<string>();
  let tries = 0;
  recovery.begin({
    name: 'v',
    about: {},
    takeUp: async () => {
      tries += 1;
      if (tries < 3) throw new UnavailableError('the bucket is away');
      known.add('a');
      return true;
    },
  });
  recovery.begun();
  const resolve = afterRecovery(recovery, async (id) => (known.has(id) ? 'ready' : 'absent'));
  expect(recovery.pending).toBe(1);
  const [has, hasNot] = await Promise.all([resolve('a', forever), resolve('b', forever)]);
  expect([has, hasNot]).toEqual(['ready', 'absent']);
  expect(tries).toBe(3);
  expect(recovery.pending).toBe(0);
});

it('answers at once what needs no waiting, and ends a wait when it is told to', async () => {
  using log = quiet();
  using recovery = createRecovery(log);
  recovery.begin({ name: 'v', about: {}, takeUp: () => new Promise(() => {}) });
  const resolve = afterRecovery(recovery, async (id) => (id === 'a' ? 'ready' : 'absent'));
  expect(await resolve('a', forever)).toBe('ready');
  const deadline = new AbortController();
  const held = resolve('b', deadline.signal);
  deadline.abort(new UnavailableError('the deadline is over'));
  await expect(held).rejects.toThrow('the deadline is over');
});

it('tells of what was taken up, and gives up what is no more', async () => {
  using log = quiet();
  using recovery = createRecovery(log);
  const taken: string[] = [];
  for (const name of ['there', 'gone']) {
    recovery.begin({ name, about: {}, takeUp: async () => name === 'there', onTakenUp: () => taken.push(name) });
  }
  recovery.begun();
  while (recovery.next()) await recovery.next();
  expect(taken).toEqual(['there']);
});
