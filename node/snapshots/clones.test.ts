import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import { type KeptClone, openKeptClones } from './clones.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'larder-clones-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const clone = (snapshot: string, changes: Partial<KeptClone> = {}): KeptClone => ({
  snapshot,
  cut: `cut of ${snapshot}`,
  volume: 'vol/1',
  repository: '/srv/datasets',
  dataset: 'birds',
  lower: sha256('lower') as Digest,
  generation: 1,
  created: '2026-01-02T03:04:05.678Z',
  pauseMilliseconds: 1.5,
  ...changes,
});

async function keep(one: KeptClone): Promise<void> {
  const clones = openKeptClones(directory);
  writeFileSync(clones.place(one.volume, one.snapshot), 'image');
  await clones.note(one);
}

it('kept clones are found again by the next daemon, the oldest first', async () => {
  await keep(clone('later', { created: '2026-01-03T00:00:00.000Z' }));
  await keep(clone('first', { attempt: 'a' }));
  writeFileSync(join(directory, 'vol%2F1.xfs'), 'the workspace');
  const clones = openKeptClones(directory);
  expect(clones.all().map(({ snapshot }) => snapshot)).toEqual(['first', 'later']);
  expect(clones.get('first')).toEqual(clone('first', { attempt: 'a' }));
  await clones.remove(clone('first'));
  await clones.remove(clone('later'));
  expect(readdirSync(directory)).toEqual(['vol%2F1.xfs']);
});

it('a clone that was not noted is removed, and so is a note whose clone is gone', async () => {
  await keep(clone('kept'));
  await keep(clone('lost'));
  const clones = openKeptClones(directory);
  rmSync(clones.fileOf(clone('lost')));
  writeFileSync(clones.place('vol/1', 'begun'), 'half');
  const next = openKeptClones(directory);
  expect(next.all().map(({ snapshot }) => snapshot)).toEqual(['kept']);
  expect(readdirSync(directory)).toHaveLength(2);
});

it('a clone is not removed for an older one of the same snapshot', async () => {
  await keep(clone('again', { cut: 'second' }));
  const clones = openKeptClones(directory);
  await clones.remove(clone('again', { cut: 'first' }));
  expect(clones.get('again')?.cut).toBe('second');
  // Nor is it in the way of what is noted: only of what is not.
  expect(readdirSync(directory)).toHaveLength(2);
  clones.place('vol/1', 'again');
  expect(readdirSync(directory)).toHaveLength(2);
});
