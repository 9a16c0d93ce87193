import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError, NotFoundError } from '../dataset/errors.ts';
import { listBranches, moveBranch, readBranch } from '../dataset/refs.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { FencedError, HeldError, type NodeIdentity } from '../dataset/volume-terms.ts';
import type { Ledger } from '../node/ledger.ts';
import { VersionMaker } from '../test/collect/small-versions.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { slowly } from '../test/support/slow-bucket.ts';
import { createLedger } from './ledger.ts';
import { KEPT_LIMIT, type Volume } from './volume.ts';
import { changeVolume, createVolume, deleteVolume, readVolume } from './volumes.ts';

const A: NodeIdentity = { node: 'node-a', instance: 'ia' };
const B: NodeIdentity = { node: 'node-b', instance: 'ib' };
const C: NodeIdentity = { node: 'node-c', instance: 'ic' };

describeRepositories('the ledger', (make) => {
  let repository: Repository;
  let maker: VersionMaker;
  let first: Digest;
  let names = 0;
  /** Nodes that are gone; the others are alive. */
  const gone = new Set<string>();
  const nodes = { look: async ({ node }: NodeIdentity) => (gone.has(node) ? 0 : 12_345) };
  const ledgerOf = (of = repository): Ledger => createLedger({ repository: of, nodes, wait: async () => undefined });

  beforeAll(async () => {
    repository = await initRepository(await make());
    maker = new VersionMaker(repository);
    first = (await version('first')).id;
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: first });
  });
  afterAll(async () => await repository.bucket.close());

  const version = (text: string, parents: readonly Digest[] = []) => maker.make(new Map([['f', text]]), { parents });
  const workspace = (changes: object = {}) =>
    createVolume(repository, {
      name: `pvc-${names++}`,
      kind: 'workspace',
      source: { dataset: 'birds' },
      capacity: {},
      ...changes,
    });

  it('gives a free workspace to a node, and the same again when it asks again', async () => {
    const { id } = await workspace();
    const ledger = ledgerOf();
    const taken = await ledger.take(id, A);
    expect(taken).toMatchObject({ generation: 1, continues: false, volume: { lower: first, holder: A } });
    expect(await ledger.take(id, A)).toMatchObject({ generation: 1, continues: false });
    expect(await ledger.take(id, A, { image: first })).toMatchObject({ generation: 1, continues: true });
    expect(await ledger.read(id)).toEqual(taken.volume);
  });

  it('refuses a workspace to another node while its holder is alive, and says which that is and for how long', async () => {
    const { id, name } = await workspace();
    const ledger = ledgerOf();
    const { generation } = await ledger.take(id, A);
    const refused = await ledger.take(id, B).catch((error) => error);
    expect(refused).toBeInstanceOf(HeldError);
    expect(refused).toMatchObject({ kind: 'unavailable', freshFor: 12_345, holder: A, facts: { node: 'node-a' } });
    expect(refused.message).toMatch(new RegExp(`node-a has volume "${name}" since .* 13 s more`));
    await ledger.release(id, generation, 'unsaved');
    await expect(ledger.take(id, B)).rejects.toThrow(/node-a is still saving its last changes/);
    expect(await ledger.read(id)).toMatchObject({ generation, holder: { ...A, unsaved: true } });
  });

  it('lets a node go on with its image after a release, if nobody had the workspace in between', async () => {
    const { id } = await workspace();
    const ledger = ledgerOf();
    const saved = await version('goes on');
    await ledger.take(id, A);
    await ledger.saved(id, 1, saved.id);
    await ledger.release(id, 1, 'saved');
    await ledger.release(id, 1, 'saved');
    const released = await readVolume(repository, id);
    expect(released).toMatchObject({ version: saved.id, lower: first, generation: 1, last: A });
    expect(released.holder).toBeUndefined();
    expect(await ledger.take(id, A, { image: first })).toMatchObject({ generation: 1, continues: true });
    await ledger.release(id, 1, 'unsaved');
    const again = await ledger.take(id, A, { image: first });
    expect(again).toMatchObject({ generation: 1, continues: true });
    expect(again.volume.holder?.unsaved).toBeUndefined();
    await ledger.release(id, 1, 'saved');
    // Without its image it begins on what was saved, and so does another node.
    expect(await ledger.take(id, A)).toMatchObject({ generation: 2, continues: false, volume: { lower: saved.id } });
    await ledger.release(id, 2, 'saved');
    expect(await ledger.take(id, B, { image: saved.id })).toMatchObject({ generation: 3, continues: false });
    await ledger.release(id, 3, 'saved');
    expect(await ledger.take(id, A, { image: saved.id })).toMatchObject({ generation: 4, continues: false });
  });

  it('gives the workspace of a node that is gone to another, and fences the one that comes back', async () => {
    const { id, name } = await workspace();
    const ledger = ledgerOf();
    const [saved, late, newer] = [await version('saved'), await version('late'), await version('newer')];
    await ledger.take(id, C);
    await ledger.saved(id, 1, saved.id);
    gone.add(C.node);
    const taken = await ledger.take(id, A);
    gone.delete(C.node);
    // Its image is on the version that it began with, which stays for what it will set aside.
    expect(taken).toMatchObject({ generation: 2, volume: { lower: saved.id, kept: [first], holder: A } });
    const fenced = await ledger.saved(id, 1, late.id).catch((error) => error);
    expect(fenced).toBeInstanceOf(FencedError);
    expect(fenced).toMatchObject({
      kind: 'conflict',
      generation: 2,
      facts: { generation: 1, current: 2, node: 'node-a' },
    });
    await expect(ledger.release(id, 1, 'saved')).rejects.toThrow(FencedError);
    await ledger.saved(id, 2, newer.id);
    await expect(ledger.saved(id, 1, late.id)).rejects.toThrow(FencedError);
    expect(await readVolume(repository, id)).toMatchObject({ version: newer.id, generation: 2, holder: A });
    const changes = { volume: taken.volume, node: C.node, generation: 1, version: late.id };
    const branch = await ledger.setAside(changes);
    expect(branch).toBe(`aside/${name}/node-c-1`);
    expect(await ledger.setAside(changes)).toBe(branch);
    expect(await ledger.setAside({ ...changes, version: newer.id })).toBe(`${branch}-2`);
    expect((await readBranch(repository, 'birds', branch))?.version).toBe(late.id);
    expect((await readVolume(repository, id)).aside).toEqual([branch, `${branch}-2`]);
  });

  it('sees that a node was installed anew, which has nothing of what it held before', async () => {
    const { id } = await workspace();
    const installed: NodeIdentity = { ...A, instance: 'ia2' };
    const ledger = createLedger({
      repository,
      nodes: { look: async ({ instance }) => (instance === installed.instance ? 40_000 : 0) },
    });
    await ledger.take(id, A);
    expect(await ledger.take(id, installed, { image: first })).toMatchObject({ generation: 2, continues: false });
    await expect(ledger.saved(id, 1, first)).rejects.toThrow(FencedError);
  });

  it('sets changes aside whose volume was deleted, under any name that a volume can have', async () => {
    const volume = await workspace({ name: 'a: ~strange/name'.padEnd(120, 'é') });
    await deleteVolume(repository, volume.id);
    const changes = await version('of a deleted volume');
    const ledger = ledgerOf();
    const branch = await ledger.setAside({
      volume,
      node: `${'n'.repeat(250)}.example`,
      generation: 7,
      version: changes.id,
    });
    expect(branch).toMatch(/^aside\/a---strange-name-+-[0-9a-f]{12}\/n+-[0-9a-f]{12}-7$/);
    expect((await readBranch(repository, 'birds', branch))?.version).toBe(changes.id);
    await expect(ledger.take(volume.id, A)).rejects.toThrow(NotFoundError);
    await expect(ledger.saved(volume.id, 0, changes.id)).rejects.toThrow(NotFoundError);
    await expect(ledger.release(volume.id, 0, 'saved')).rejects.toThrow(NotFoundError);
  });

  it('names the newest branches with changes set aside, and keeps all of them', async () => {
    const { id } = await workspace();
    const names = Array.from({ length: KEPT_LIMIT }, (_, i) => `aside/old-${i}`);
    const volume = await changeVolume(repository, id, (before) => ({ ...before, aside: names }));
    const branch = await ledgerOf().setAside({ volume, node: 'n', generation: 1, version: first });
    expect((await readVolume(repository, id)).aside).toEqual([...names.slice(1), branch]);
  });

  it('does not lease pinned volumes', async () => {
    const { id } = await workspace({ kind: 'pinned' });
    await expect(ledgerOf().take(id, A)).rejects.toMatchObject({ kind: 'invalid' });
    await expect(ledgerOf().saved(id, 0, first)).rejects.toMatchObject({ kind: 'invalid' });
  });

  it('makes nothing the content of a volume that is not stored', async () => {
    const { id } = await workspace();
    await ledgerOf().take(id, A);
    const nowhere = '0'.repeat(64) as Digest;
    await expect(ledgerOf().saved(id, 1, nowhere)).rejects.toThrow(NotFoundError);
    expect((await readVolume(repository, id)).version).toBe(first);
  });

  it('gives a free workspace to exactly one of many nodes that race for it', async () => {
    const random = createRandom(11);
    const ledger = ledgerOf();
    const { id } = await workspace();
    for (let round = 1; round <= 12; round++) {
      const racers = Array.from({ length: 4 }, (_, i): NodeIdentity => ({ node: `racer-${i}`, instance: `i${i}` }));
      const slow = racers.map(() => ledgerOf(slowly(repository, random)));
      const results = await Promise.allSettled(racers.map((racer, i) => slow[i]!.take(id, racer)));
      const winners = results.flatMap((result, i) => (result.status === 'fulfilled' ? [{ ...result.value, i }] : []));
      expect(winners).toHaveLength(1);
      for (const result of results) if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(HeldError);
      const [winner] = winners;
      expect(await ledger.read(id)).toMatchObject({ generation: round, holder: racers[winner!.i] });
      await ledger.release(id, winner!.generation, 'saved');
    }
  });

  it('loses nothing of a node that saves while others take its workspace from it: each save is in the volume or fenced', async () => {
    const random = createRandom(23);
    const saves = await Promise.all(Array.from({ length: 8 }, (_, i) => version(`a late save ${i}`)));
    let fencedOnes = 0;
    gone.add(C.node);
    for (const [round, late] of saves.entries()) {
      const { id } = await workspace();
      const { volume } = await ledgerOf().take(id, C);
      const clients = [A, B, C].map(() => ledgerOf(slowly(repository, random)));
      const [a, b, c] = await Promise.allSettled([
        clients[0]!.take(id, A),
        clients[1]!.take(id, B),
        clients[2]!.saved(id, 1, late.id),
      ]);
      const takers = [a, b].filter((result) => result.status === 'fulfilled');
      expect(takers, `round ${round}`).toHaveLength(1);
      const { lower, version: now } = await readVolume(repository, id);
      if (c.status === 'fulfilled') {
        // It came first, and who took the workspace begins on it.
        expect([lower, now]).toEqual([late.id, late.id]);
      } else {
        fencedOnes += 1;
        expect(c.reason).toBeInstanceOf(FencedError);
        expect([lower, now]).toEqual([first, first]);
        const aside = await clients[2]!.setAside({ volume, node: C.node, generation: 1, version: late.id });
        expect((await readBranch(repository, 'birds', aside))?.version).toBe(late.id);
        await expect(clients[2]!.saved(id, 1, late.id)).rejects.toThrow(FencedError);
      }
    }
    gone.delete(C.node);
    const aside = (await listBranches(repository, 'birds')).filter(({ name }) => name.endsWith('/node-c-1'));
    expect(aside.length).toBeGreaterThanOrEqual(fencedOnes);
  });

  it('keeps its rules whatever any number of nodes do at once', async () => {
    const random = createRandom(5);
    const { id } = await workspace();
    const history: Volume[] = [await readVolume(repository, id)];
    const versions = await Promise.all(Array.from({ length: 6 }, (_, i) => version(`of the storm ${i}`)));
    const live = { look: async () => (random.oneIn(2) ? 0 : 1000) };
    const allowed = [HeldError, FencedError, ConflictError];
    const actor = async (who: NodeIdentity) => {
      const ledger: Ledger = createLedger({ repository: slowly(repository, random), nodes: live });
      let generation = 0;
      for (let act = 0; act < 12; act++) {
        try {
          if (generation === 0 || random.oneIn(4)) ({ generation } = await ledger.take(id, who));
          else if (random.oneIn(3)) await ledger.release(id, generation, random.pick(['saved', 'unsaved']));
          else await ledger.saved(id, generation, random.pick(versions).id);
        } catch (error) {
          if (!allowed.some((kind) => error instanceof kind)) throw error;
        }
      }
    };
    // What is stored comes to pass one after the other: each record is read back before the next may replace it.
    const { bucket } = repository;
    const put = bucket.put.bind(bucket);
    let turn: Promise<unknown> = Promise.resolve();
    bucket.put = (key, ...rest) => {
      const stored = turn.then(async () => {
        const etag = await put(key, ...rest);
        if (key.startsWith('volumes/')) history.push(await readVolume(repository, id));
        return etag;
      });
      turn = stored.catch(() => undefined);
      return stored;
    };
    try {
      await Promise.all([A, B, C, A].map(actor));
    } finally {
      bucket.put = put;
    }
    expect(history.length).toBeGreaterThan(10);
    for (const [i, now] of history.entries()) {
      const before = history[i - 1];
      if (before !== undefined) checkStep(before, now);
    }
  });
});

/** One change of a record, as the rules allow it. */
function checkStep(before: Volume, now: Volume): void {
  expect(now.base).toBe(before.base);
  if (now.generation !== before.generation) {
    // Taken: the content is what the last save left, and the taker's image begins on it.
    expect(now.generation).toBe(before.generation + 1);
    expect(now.version).toBe(before.version);
    expect(now.lower).toBe(before.version);
    expect(now.holder).toBeDefined();
    return;
  }
  expect(now.lower).toBe(before.lower);
  if (now.version !== before.version) expect(now.holder).toEqual(before.holder);
  else if (before.holder !== undefined && now.holder !== undefined)
    expect(identity(now.holder)).toEqual(identity(before.holder));
  else if (before.holder !== undefined) expect(identity(now.last!)).toEqual(identity(before.holder));
  else expect(identity(now.holder!)).toEqual(identity(before.last!));
}

const identity = ({ node, instance }: NodeIdentity) => ({ node, instance });
