import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, Ask, Cut } from '../dataset/asks.ts';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { readPins } from '../dataset/pins.ts';
import { moveBranch, readBranch, readTag } from '../dataset/refs.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import type { NodeIdentity } from '../dataset/volume-terms.ts';
import { serveAsks } from '../node/asks.ts';
import type { Logger } from '../node/log.ts';
import { VersionMaker } from '../test/collect/small-versions.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { createAsks } from './asks.ts';
import { createGroupSnapshot, deleteGroupSnapshot, readGroupSnapshot } from './group-snapshots.ts';
import { saveFirst } from './holder.ts';
import { createLedger } from './ledger.ts';
import { PageError } from './record-store.ts';
import { groupRecords } from './snapshot.ts';
import {
  contentOf,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  readSnapshot,
  type SnapshotContext,
} from './snapshots.ts';
import { createVolume, readVolume } from './volumes.ts';

const A: NodeIdentity = { node: 'node-a', instance: 'ia' };
const B: NodeIdentity = { node: 'node b', instance: 'ib' };

const silent = { debug() {}, info() {}, warn() {}, error() {}, writes: () => false, with: () => silent } as Logger;

describeRepositories('snapshots', (make) => {
  let repository: Repository;
  let maker: VersionMaker;
  let first: Digest;
  let count = 0;
  const gone = new Set<string>();
  const nodes = { look: async ({ node }: NodeIdentity) => (gone.has(node) ? 0 : 12_345) };
  const context = (patience = 20_000): SnapshotContext => ({ asks: createAsks({ repository, patience }), nodes });
  const ledger = () => createLedger({ repository, nodes });

  beforeAll(async () => {
    repository = await initRepository(await make());
    maker = new VersionMaker(repository);
    first = (await version('first')).id;
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: first });
  });
  afterAll(async () => await repository.bucket.close());

  const version = (text: string, parents: readonly Digest[] = []) => maker.make(new Map([['f', text]]), { parents });
  const volume = (kind: 'workspace' | 'pinned' = 'workspace') =>
    createVolume(repository, { name: `pvc-${count++}`, kind, source: { dataset: 'birds' }, capacity: {} });
  const held = async (by: NodeIdentity = A) => {
    const { id } = await volume();
    await ledger().take(id, by);
    return id;
  };
  const name = () => `snapshot ${count++}`;

  /** A node that answers through the repository, and what it was asked. */
  const node = (identity: NodeIdentity, handle: (ask: Ask) => Promise<Answer> = async (ask) => cutAll(ask)) => {
    const asked: Ask[] = [];
    const serving = serveAsks({
      bucket: repository.bucket,
      node: identity.node,
      log: silent,
      interval: 20,
      handle: async (ask) => {
        asked.push(ask);
        return await handle(ask);
      },
    });
    return Object.assign(serving, { asked });
  };
  const cut = (snapshot: string, changes: Partial<Cut> = {}): Cut => ({
    snapshot,
    cut: `clone ${count++}`,
    created: '2026-01-02T03:04:05.678Z',
    pauseMilliseconds: 1.25,
    lower: first,
    ...changes,
  });
  const cutAll = (ask: Ask): Answer =>
    ask.kind === 'cut'
      ? { kind: 'cut', cuts: [cut(ask.snapshot)] }
      : ask.kind === 'cut-group'
        ? { kind: 'cut', cuts: ask.members.map(({ snapshot }) => cut(snapshot)) }
        : { kind: 'saved' };
  const pins = async (id: string) => {
    for await (const { key, versions } of readPins(repository))
      if (id.startsWith(key.slice('snapshots/'.length))) return versions;
    return undefined;
  };

  describe('of volumes that no node has', () => {
    it('are ready at once, and keep the content when the volume goes on', async () => {
      const { id: source } = await volume();
      const { generation } = await ledger().take(source, A);
      const second = (await version('second', [first])).id;
      await ledger().saved(source, generation, second);
      await ledger().release(source, generation, 'saved');
      const made = await createSnapshot(repository, { name: 'saved', source }, context());
      expect(made).toMatchObject({ source, version: second, ready: true, dataset: 'birds', kind: 'workspace' });
      expect(made.pauseMilliseconds).toBeUndefined();
      expect(await readSnapshot(repository, made.id)).toEqual(made);
      expect(await createSnapshot(repository, { name: 'saved', source }, context())).toEqual(made);
      expect(await pins(made.id)).toEqual([second]);
      expect(contentOf(made)).toEqual({ dataset: 'birds', version: second });
    });

    it('of a node that is gone are what it saved last', async () => {
      const source = await held({ node: 'lost', instance: 'x' });
      gone.add('lost');
      const made = await createSnapshot(repository, { name: name(), source }, context());
      expect(made).toMatchObject({ version: first, ready: true });
    });

    it('of a node that is silent are that too, once it is given up while it is asked', async () => {
      for (const many of [false, true]) {
        const sources = [await held(), ...(many ? [(await volume()).id] : [])];
        let looks = 0;
        const given: string[] = [];
        const silentNode: SnapshotContext = {
          ...context(),
          nodes: { look: async () => (looks++ === 0 ? 40_000 : 0) },
          onGivenUp: ({ id }, { node }) => given.push(id, node),
        };
        const made = many
          ? (await createGroupSnapshot(repository, { name: name(), sources }, silentNode)).snapshots
          : [await createSnapshot(repository, { name: name(), source: sources[0]! }, silentNode)];
        for (const each of made) expect(each).toMatchObject({ version: first, ready: true });
        expect(made).toHaveLength(sources.length);
        expect(given).toEqual([sources[0], 'node-a']);
        // What it was asked is taken back.
        expect(await found('nodes/node-a/asks/')).toEqual([]);
      }
    });

    it('say what they were asked to say, under the names that were asked for', async () => {
      const source = await held();
      const { generation } = await ledger().take(source, A);
      const second = await version('third', [first]);
      await ledger().saved(source, generation, second.id);
      await ledger().release(source, generation, 'saved');
      const parameters = { message: 'cleaned', author: 'who', tag: 'clean', branch: 'side' };
      const made = await createSnapshot(repository, { name: name(), source, parameters, meta: { k: 'v' } }, context());
      const described = await readVersion(repository, made.version!);
      expect(described).toMatchObject({ message: 'cleaned', author: 'who', meta: { k: 'v' }, root: second.root });
      expect(described.parents).toEqual([first]);
      expect((await readTag(repository, 'birds', 'clean'))?.version).toBe(made.version);
      expect((await readBranch(repository, 'birds', 'side'))?.version).toBe(made.version);
      const other = { name: name(), source: (await volume()).id, parameters: { branch: 'side' } };
      await expect(createSnapshot(repository, other, context())).rejects.toThrow(/does not follow.*larder merge/);
    });

    it('are refused with the reason', async () => {
      const { id: source } = await volume('pinned');
      const create = (changes: object) =>
        createSnapshot(repository, { name: 'refused', source, ...changes }, context());
      await expect(create({ source: 'vol-nonsense' })).rejects.toBeInstanceOf(NotFoundError);
      await expect(create({ parameters: { colour: 'red' } })).rejects.toThrow(/"colour".*message .*tag .*branch/);
      await expect(create({ parameters: { tag: 'a:b' } })).rejects.toBeInstanceOf(InvalidError);
      await create({ parameters: { 'csi.storage.k8s.io/volumesnapshot/name': 'mine' } });
      await expect(create({ source: (await volume()).id })).rejects.toBeInstanceOf(ConflictError);
    });
  });

  describe('of workspaces that a node has', () => {
    it('are cut there, and ready when the node says that the content is stored', async () => {
      const source = await held();
      await using serving = node(A);
      const asked = { name: name(), source, parameters: { message: 'live', tag: `tag-${count++}` } };
      const made = await createSnapshot(repository, asked, context());
      expect(made).toMatchObject({ ready: false, node: 'node-a', pauseMilliseconds: 1.25 });
      expect(made.created).toBe('2026-01-02T03:04:05.678Z');
      expect(made.version).toBeUndefined();
      expect(() => contentOf(made)).toThrow(/not ready: node node-a is still sending/);
      expect(await createSnapshot(repository, asked, context())).toEqual(made);
      expect(serving.asked).toEqual([{ kind: 'cut', snapshot: made.id, volume: source }]);
      const { snapshots } = ledger();
      expect(await snapshots.standing(made.id, 'another')).toEqual({ standing: 'unwanted' });
      const clone = `clone ${count - 1}`;
      expect(await snapshots.standing(made.id, clone)).toEqual({
        standing: 'wanted',
        version: { author: 'larder', message: 'live' },
      });
      await snapshots.failed(made.id, clone, 'no way there');
      expect((await readSnapshot(repository, made.id)).failure).toBe('no way there');
      const content = (await version('live content', [first])).id;
      await snapshots.ready(made.id, 'another', content);
      expect((await readSnapshot(repository, made.id)).ready).toBe(false);
      expect(await pins(made.id)).toEqual([first]);
      await snapshots.ready(made.id, clone, content);
      const ready = await readSnapshot(repository, made.id);
      expect(ready).toMatchObject({ ready: true, version: content });
      expect(ready.failure).toBeUndefined();
      expect((await readTag(repository, 'birds', asked.parameters.tag))?.version).toBe(content);
      expect(await pins(made.id)).toEqual([content]);
      expect(await snapshots.standing(made.id, clone)).toEqual({ standing: 'unwanted' });
    });

    it('take the clone that was confirmed, whoever answers later', async () => {
      const source = await held();
      await using _ = node(A);
      const asked = { name: name(), source };
      const [one, other] = await Promise.all([
        createSnapshot(repository, asked, context()),
        createSnapshot(repository, asked, context()),
      ]);
      expect(one).toEqual(other);
    });

    it('are not there until they are cut, and say who did not answer', async () => {
      const source = await held();
      const asked = { name: name(), source };
      const failed = await createSnapshot(repository, asked, context(200)).catch((error) => error);
      expect(failed).toBeInstanceOf(UnavailableError);
      expect(failed.message).toMatch(/node node-a did not answer/);
      expect((await listSnapshots(repository, { source })).snapshots).toEqual([]);
      expect(await found('nodes/node-a/asks/')).toEqual([]);
      await using _ = node(A);
      expect(await createSnapshot(repository, asked, context())).toMatchObject({ ready: false });
    });

    it('are of what the record tells where the node has let go of it meanwhile', async () => {
      const source = await held();
      await using _ = node(A, async (ask) => {
        const { generation } = await readVolume(repository, source);
        await ledger().release(source, generation, 'saved');
        return { kind: 'elsewhere', volume: (ask as { volume: string }).volume };
      });
      const made = await createSnapshot(repository, { name: name(), source }, context());
      expect(made).toMatchObject({ ready: true, version: first });
    });

    it('wait for a node that still saves what was unstaged there', async () => {
      const source = await held();
      const { generation } = await readVolume(repository, source);
      await ledger().release(source, generation, 'unsaved');
      const second = (await version('last words', [first])).id;
      await using serving = node(A, async () => {
        await ledger().saved(source, generation, second);
        await ledger().release(source, generation, 'saved');
        return { kind: 'saved' };
      });
      const made = await createSnapshot(repository, { name: name(), source }, context());
      expect(made).toMatchObject({ ready: true, version: second });
      expect(serving.asked).toEqual([{ kind: 'save-now', volume: source }]);
    });

    it('fail as their node does', async () => {
      const source = await held();
      await using _ = node(A, async () => {
        throw new UnavailableError('no room', { facts: { left: 3 } });
      });
      const failed = await createSnapshot(repository, { name: name(), source }, context()).catch((error) => error);
      expect(failed).toMatchObject({ kind: 'unavailable', message: 'no room', facts: { left: 3 } });
    });

    it('are saved before they are cloned', async () => {
      const source = await held();
      const second = (await version('for a clone', [first])).id;
      await using _ = node(A, async () => {
        await ledger().saved(source, 1, second);
        return { kind: 'saved' };
      });
      expect(await saveFirst(repository, source, context())).toMatchObject({ version: second });
    });
  });

  it('are listed by the page, by their volume, and by their id', async () => {
    const { id: source } = await volume();
    const made = [];
    for (let i = 0; i < 5; i++) made.push(await createSnapshot(repository, { name: name(), source }, context()));
    const ids = made.map(({ id }) => id).sort();
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const page = await listSnapshots(repository, { source, limit: 2, ...(after && { after }) });
      expect(page.snapshots.length).toBeLessThanOrEqual(2);
      seen.push(...page.snapshots.map(({ id }) => id));
      after = page.next;
    } while (after !== undefined);
    expect(seen).toEqual(ids);
    const id = ids[0]!;
    expect((await listSnapshots(repository, { id })).snapshots).toMatchObject([{ id }]);
    expect((await listSnapshots(repository, { id, source: 'vol-other' })).snapshots).toEqual([]);
    expect((await listSnapshots(repository, { id: 'nonsense' })).snapshots).toEqual([]);
    await expect(listSnapshots(repository, { after: 'nonsense' })).rejects.toBeInstanceOf(PageError);
    await deleteSnapshot(repository, id);
    await deleteSnapshot(repository, id);
    await deleteSnapshot(repository, 'nonsense');
    await expect(readSnapshot(repository, id)).rejects.toBeInstanceOf(NotFoundError);
  });

  describe('of a group', () => {
    it('can be deleted one by one where the record of their group is lost', async () => {
      const sources = [(await volume()).id, (await volume()).id];
      const { id, snapshots } = await createGroupSnapshot(repository, { name: name(), sources }, context());
      const [one] = snapshots;
      await expect(deleteSnapshot(repository, one!.id)).rejects.toThrow(/member of the group/);
      await repository.bucket.delete(`groups/${groupRecords.slotOfId(id)}`);
      for (const snapshot of snapshots) await deleteSnapshot(repository, snapshot.id);
      expect((await listSnapshots(repository, { source: sources[0]! })).snapshots).toEqual([]);
    });

    it('are made together, of volumes that nodes have and others', async () => {
      const sources = [await held(A), await held(A), await held(B), (await volume()).id, (await volume('pinned')).id];
      await using one = node(A);
      await using other = node(B, async (ask) => {
        const { members } = ask as Ask & { kind: 'cut-group' };
        const later = { created: '2026-01-02T03:04:06.000Z', pauseMilliseconds: 7.5 };
        return { kind: 'cut', cuts: members.map(({ snapshot }) => cut(snapshot, later)) };
      });
      const asked = { name: name(), sources };
      const group = await createGroupSnapshot(repository, asked, context());
      expect(group).toMatchObject({ ready: false, created: '2026-01-02T03:04:06.000Z', pauseMilliseconds: 7.5 });
      expect(group.snapshots.map(({ source }) => source)).toEqual([...sources].sort());
      expect(new Set(group.snapshots.map(({ created }) => created))).toEqual(new Set([group.created]));
      expect(group.snapshots.filter(({ ready }) => ready)).toHaveLength(2);
      expect(group.snapshots.every((each) => each.group === group.id)).toBe(true);
      expect(one.asked).toMatchObject([{ kind: 'cut-group', nodes: ['node b', 'node-a'] }]);
      expect(other.asked).toHaveLength(1);
      expect(await createGroupSnapshot(repository, { ...asked, sources: sources.reverse() }, context())).toEqual(group);
      expect(await readGroupSnapshot(repository, group.id)).toEqual(group);
      expect((await listSnapshots(repository, { source: sources[0]! })).snapshots).toHaveLength(1);

      const ids = group.snapshots.map(({ id }) => id);
      await expect(deleteSnapshot(repository, ids[0]!)).rejects.toBeInstanceOf(InvalidError);
      await expect(deleteGroupSnapshot(repository, group.id, ids.slice(1))).rejects.toBeInstanceOf(InvalidError);
      await expect(
        createGroupSnapshot(repository, { ...asked, sources: sources.slice(1) }, context()),
      ).rejects.toBeInstanceOf(ConflictError);
      await deleteGroupSnapshot(repository, group.id, ids);
      await deleteGroupSnapshot(repository, group.id);
      await expect(readGroupSnapshot(repository, group.id)).rejects.toBeInstanceOf(NotFoundError);
      for (const id of ids) await expect(readSnapshot(repository, id)).rejects.toBeInstanceOf(NotFoundError);
    });

    it('are all there or none', async () => {
      const sources = [await held(A), await held(B), (await volume()).id];
      await using _ = node(A);
      const before = [await found('snapshots/'), await found('groups/')];
      await using __ = node(B, async () => {
        throw new UnavailableError('the barrier did not hold');
      });
      const asked = { name: name(), sources };
      await expect(createGroupSnapshot(repository, asked, context())).rejects.toThrow('the barrier did not hold');
      expect([await found('snapshots/'), await found('groups/')]).toEqual(before);
    });

    it('are of one attempt, also where the first was cut short before all members told of it', async () => {
      const sources = [await held(A), await held(A)];
      const asked = { name: name(), sources };
      const attempts: string[] = [];
      await using _ = node(A, async (ask) => {
        const { attempt, members } = ask as Ask & { kind: 'cut-group' };
        attempts.push(attempt);
        return { kind: 'cut', cuts: members.map(({ snapshot }) => cut(snapshot, { cut: `${attempt} ${snapshot}` })) };
      });
      const group = await createGroupSnapshot(repository, asked, context());
      // As if the controller had ended once the group's record was written.
      const [member] = group.snapshots;
      const key = `snapshots/${member!.id.slice(0, -9)}`;
      const { created: _c, pauseMilliseconds: _p, node: _n, ready, ...rest } = member!;
      const { canonicalJson } = await import('../dataset/format/canonical-json.ts');
      const begun = { ...rest, ready, version: first, format: 1 };
      await repository.bucket.put(key, Buffer.from(canonicalJson(begun as never)));
      await expect(readSnapshot(repository, member!.id)).rejects.toBeInstanceOf(NotFoundError);
      expect(await createGroupSnapshot(repository, asked, context())).toEqual(group);
      expect(attempts).toHaveLength(1);
      const { snapshots } = ledger();
      expect(await snapshots.standing(member!.id, `${attempts[0]} ${member!.id}`)).toMatchObject({
        standing: 'wanted',
      });
    });
  });

  const found = async (prefix: string) => {
    const keys: string[] = [];
    for await (const { key } of repository.bucket.list(prefix)) keys.push(key);
    return keys;
  };

  it('leave nothing behind of what was asked', async () => {
    expect((await found('nodes/')).filter((key) => !key.endsWith('/bell'))).toEqual([]);
  });
});
