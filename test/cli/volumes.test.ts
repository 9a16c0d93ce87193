import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startHeartbeat } from '../../controller/heartbeat.ts';
import { createLedger } from '../../controller/ledger.ts';
import { createSnapshot } from '../../controller/snapshots.ts';
import type { Volume } from '../../controller/volume.ts';
import { changeVolume, createVolume, readVolume, type VolumeRequest } from '../../controller/volumes.ts';
import { openRepository, type Repository } from '../../dataset/repository.ts';
import type { NodeIdentity } from '../../dataset/volume-terms.ts';
import { createWorld } from './support.ts';

const { directory, env, larder, ok, documents, start } = createWorld();
const LIVE: NodeIdentity = { node: 'node-live', instance: 'il' };
const LOST: NodeIdentity = { node: 'node-lost', instance: 'io' };
/** After so long a node is given up, in milliseconds. */
const GIVE_UP = 3_000;

let repository: Repository;

beforeAll(async () => {
  env.LARDER_GIVE_UP = `${GIVE_UP / 1000}s`;
  mkdirSync(join(directory, 'source'));
  writeFileSync(join(directory, 'source', 'a'), 'a');
  ok('repository', 'init');
  ok('import', 'source', 'emoji');
  repository = await openRepository(join(directory, 'repository'));
});
afterAll(async () => {
  await repository.bucket.close();
});

const create = (name: string, more: Partial<VolumeRequest> = {}) =>
  createVolume(repository, { name, kind: 'workspace', source: { dataset: 'emoji' }, capacity: {}, ...more });
const ledger = () => createLedger({ repository, nodes: { look: async () => 0 } });
/** Signs of life, until they are stopped. Not beside a program that this process waits for: it stands still meanwhile. */
const beating = async (node: NodeIdentity) => {
  const beat = startHeartbeat({ repository, node, facts: async () => ({}), interval: 400, onError: () => {} });
  await beat.beating;
  return beat;
};
/** A workspace on a node whose last sign of life is there. */
const on = async (node: NodeIdentity, name: string): Promise<Volume> => {
  const { id } = await create(name);
  await ledger().take(id, node);
  await (await beating(node)).stop({ remove: false });
  return await readVolume(repository, id);
};

describe('larder volume', () => {
  it('lists volumes with their content, their node, when they were saved and how they are', async () => {
    expect(larder('volume', 'list')).toMatchObject({ status: 0, stdout: '', stderr: 'no volumes in the repository\n' });
    const pinned = await create('pvc-a', { kind: 'pinned' });
    const held = await on(LIVE, 'pvc-b');
    const { id } = await create('pvc-c');
    await changeVolume(repository, id, (now) => ({
      ...now,
      aside: ['aside/pvc-c/node-1'],
      savedAt: '2026-01-02T03:04:05.678Z',
    }));
    ok('branch', 'create', 'emoji', 'aside/pvc-c/node-1');
    const short = pinned.version.slice(0, 12);
    expect(ok('volume', 'list').replace(/ +/g, ' ').trimEnd().split('\n')).toEqual([
      'VOLUME CONTENT KIND NODE SAVED CONDITION',
      `pvc-a emoji@${short} pinned - - well`,
      `pvc-b emoji@${short} workspace node-live - well`,
      `pvc-c emoji@${short} workspace - 2026-01-02 03:04 changes-set-aside`,
    ]);
    expect(ok('volume', 'ls', 'emoji')).toBe(ok('volume', 'list'));
    expect(documents('volume', 'list')).toMatchObject([
      { volume: pinned.id, name: 'pvc-a', kind: 'pinned', condition: { ok: true, problems: [] } },
      { volume: held.id, name: 'pvc-b', holder: LIVE, generation: 1 },
      { volume: id, savedAt: '2026-01-02T03:04:05.678Z', condition: { ok: false } },
    ]);
    expect(larder('volume', 'list', 'emojo')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("did you mean 'emoji'"),
    });
  });

  it('shows all of one, by its id or its name', async () => {
    const { id } = await create('pvc-shown', {
      settings: { retention: 'keep', autosave: 0, mode: 0o750, deadline: 5000 },
    });
    await changeVolume(repository, id, (now) => ({ ...now, aside: ['aside/pvc-shown/node-1'] }));
    ok('branch', 'create', 'emoji', 'aside/pvc-shown/node-1');
    const nodes = { look: async () => 0 };
    const asks = { ask: () => Promise.reject(new Error('nobody is asked')) };
    const snapshot = await createSnapshot(repository, { name: 'of shown', source: id }, { nodes, asks });
    const text = ok('volume', 'show', 'pvc-shown');
    expect(ok('volume', 'show', id)).toBe(text);
    const { version } = await readVolume(repository, id);
    for (const line of [
      `volume   ${id}`,
      'name     pvc-shown',
      'kind     workspace',
      `content  emoji@${version}`,
      'settings autosave off, deadline 5.0 s, mode 0750, retention keep',
      'saved    never',
      'holder   no node; generation 0',
      'aside    emoji@aside/pvc-shown/node-1',
      `snapshot ${snapshot.id}`,
    ])
      expect(text.split('\n')).toContain(line);
    expect(text).toContain('\nwrong    changes-set-aside: a node had changes');
    expect(documents('volume', 'show', 'pvc-shown')).toMatchObject([
      { volume: id, snapshots: [snapshot.id], settings: { retention: 'keep' }, condition: { ok: false } },
    ]);
    expect(larder('volume', 'show', 'pvc-nowhere')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("'larder volume list'"),
    });
  });

  it('says what would go before anything is deleted, and keeps the content of a volume that is to be kept', async () => {
    const { id, version } = await create('pvc-kept', { settings: { retention: 'keep' } });
    const refused = larder('volume', 'delete', 'pvc-kept');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/pvc-kept.*workspace.*stay as a branch: add --yes/);
    expect((await readVolume(repository, id)).id).toBe(id);
    expect(documents('volume', 'delete', id, '--yes')).toEqual([
      { volume: id, name: 'pvc-kept', deleted: true, branch: 'volumes/pvc-kept' },
    ]);
    expect(documents('show', 'emoji@volumes/pvc-kept')).toMatchObject([{ version }]);
    expect(larder('volume', 'delete', 'pvc-kept', '--yes').status).toBe(3);
  });

  it('deletes none that a node holds, and says what to do', async () => {
    const { id } = await on(LIVE, 'pvc-held');
    const beat = await beating(LIVE);
    const ended = await start(['volume', 'delete', 'pvc-held', '--yes']).ended;
    await beat.stop({ remove: false });
    expect(ended).toMatchObject({ status: 4, stdout: '' });
    expect(ended.stderr).toContain('in use on node node-live');
    expect(ended.stderr).toContain('try again when it is unstaged there');
    expect((await readVolume(repository, id)).id).toBe(id);
  });

  it('deletes one whose node is lost, once that has given no sign of life for as long as it takes', async () => {
    await on(LOST, 'pvc-lost');
    const began = performance.now();
    expect(ok('volume', 'delete', 'pvc-lost', '-y')).toBe('volume pvc-lost is gone\n');
    expect(performance.now() - began).toBeGreaterThan(GIVE_UP);
  });
});

describe('larder snapshot', () => {
  it('of a volume whose node is lost waits until that is sure, takes what was saved last, and says so', async () => {
    const { version } = await on(LOST, 'pvc-silent');
    const began = performance.now();
    const { status, stdout, stderr } = larder('snapshot', 'create', 'pvc-silent', '--name', 'of silent');
    expect(performance.now() - began).toBeGreaterThan(GIVE_UP);
    expect(status).toBe(0);
    expect(stdout).toContain(`emoji@${version.slice(0, 12)}, ready`);
    expect(stderr).toBe(
      'larder: warning: node node-lost, which has volume pvc-silent, gives no signs of life: the snapshot is what it was created from\n',
    );
  });

  it('takes the name that a snapshot of a volume was created under wherever it takes its id', async () => {
    const { version } = await create('pvc-named');
    const [made] = documents('snapshot', 'create', 'pvc-named', '--name', 'before cleaning');
    expect(documents('snapshot', 'show', 'before cleaning')).toMatchObject([{ snapshot: made!.snapshot }]);
    expect(documents('snapshot', 'tag', 'before cleaning', 'tagged')).toMatchObject([{ tag: 'tagged', version }]);
    expect(documents('snapshot', 'branch', 'before cleaning', 'side')).toMatchObject([{ branch: 'side', version }]);
    expect(documents('snapshot', 'delete', 'before cleaning')).toEqual([{ snapshot: made!.snapshot, deleted: true }]);
    expect(larder('snapshot', 'show', 'before cleaning').status).toBe(3);
    expect(larder('snapshot', 'delete', 'before cleaning')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('the id or name of a snapshot'),
    });
    for (const command of ['show', 'branch', 'tag', 'restore', 'delete'])
      expect(ok('snapshot', command, '--help').replace(/\s+/g, ' ')).toContain('the name that it was created under');
  });
});
