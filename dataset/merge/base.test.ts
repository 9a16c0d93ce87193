import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { type Digest, sha256 } from '../digest.ts';
import { versionKey } from '../keys.ts';
import { initRepository, type Repository } from '../repository.ts';
import { writeVersion } from '../version.ts';
import { findMergeBases } from './base.ts';

const SEED = Number(process.env.LARDER_SEED ?? Date.now() % 1_000_000_000);

let directory: string;
let repository: Repository;
let made = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-base-'));
  repository = await initRepository(directory);
});

afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

describe('the common ancestor of two versions', () => {
  it('is where their histories parted', async () => {
    const first = await version([]);
    const fork = await version([first]);
    const [left, right] = [await version([await version([fork])]), await version([fork])];
    expect(await bases(left, right)).toEqual([fork]);
    expect(await bases(left, left)).toEqual([left]);
    expect(await bases(left, fork)).toEqual([fork]);
    expect(await bases(fork, left)).toEqual([fork]);
    expect(await bases(left, await version([]))).toEqual([]);
  });

  it('is the last merge, once one was merged into the other', async () => {
    const first = await version([]);
    const [ours, theirs] = [await version([first]), await version([first])];
    const merged = await version([ours, theirs]);
    expect(await bases(await version([merged]), await version([theirs]))).toEqual([theirs]);
  });

  it('are two where they were merged into each other crosswise', async () => {
    const first = await version([]);
    const [a, b] = [await version([first]), await version([first])];
    const [left, right] = [await version([a, b]), await version([b, a])];
    expect(new Set(await bases(left, right))).toEqual(new Set([a, b]));
  });

  it('ends with the history where a version was collected', async () => {
    const gone = await version([]);
    const [left, right] = [await version([gone]), await version([gone])];
    await repository.bucket.delete(versionKey(gone));
    expect(await bases(left, right)).toEqual([]);
  });

  it('is not looked for without end', async () => {
    let [left, right] = [await version([]), await version([])];
    for (let i = 0; i < 10; i++) [left, right] = [await version([left]), await version([right])];
    await expect(findMergeBases(repository, left, right, { limit: 12 })).rejects.toThrow('--base');
  });

  it('of random histories is what follows from all their ancestors, whatever the clocks said', {
    timeout: 60_000,
  }, async () => {
    for (let round = 0; round < 25; round++) {
      const seed = SEED + round;
      const random = createRandom(seed);
      const parentsOf = new Map<Digest, readonly Digest[]>();
      for (let i = 0; i < 14; i++) {
        const all = [...parentsOf.keys()];
        const parents = new Set<Digest>();
        for (let wanted = random.pick([1, 1, 1, 2]); wanted > 0 && all.length > 0; wanted--)
          parents.add(random.pick(random.oneIn(2) ? all.slice(-3) : all));
        const time = random.oneIn(4) ? random.below(100_000) : i * 1000;
        parentsOf.set(await version([...parents], time), [...parents]);
      }
      const all = [...parentsOf.keys()];
      const [ours, theirs] = [random.pick(all.slice(-5)), random.pick(all.slice(-5))];
      const ancestors = (id: Digest): Set<Digest> =>
        new Set([id, ...parentsOf.get(id)!.flatMap((parent) => [...ancestors(parent)])]);
      const common = [...ancestors(ours)].filter((id) => ancestors(theirs).has(id));
      const best = common.filter((id) => !common.some((other) => other !== id && ancestors(other).has(id)));
      expect(new Set(await bases(ours, theirs)), `LARDER_SEED=${seed}`).toEqual(new Set(best));
    }
  });
});

async function bases(ours: Digest, theirs: Digest): Promise<Digest[]> {
  return (await findMergeBases(repository, ours, theirs)).map(({ id }) => id);
}

/** @param time in milliseconds; later than all others if not said */
async function version(parents: readonly Digest[], time = 1_000_000 + made): Promise<Digest> {
  const fields = { root: sha256(`tree ${made++}`), parents, author: 'a', message: '', meta: {}, entries: 1, bytes: 1 };
  return (await writeVersion(repository, { ...fields, time: new Date(time).toISOString() })).id;
}
