import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deleteVolume } from '../../controller/volumes.ts';
import { readBranch } from '../../dataset/refs.ts';
import { FencedError, HeldError } from '../../dataset/volume-terms.ts';
import { canMount } from '../support/privilege.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { createNodes, GIVE_UP, mountedBelow, type Nodes, until } from './nodes.ts';

const FIRST = { a: 'first a', b: 'first b', 'folder/c': 'first folder/c' };

let disk: SmallDisk;
let nodes: Nodes;

describe.skipIf(!canMount)('the changes to a workspace with a record', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    // With reflink, as a node's disk should have.
    disk = await smallDisk({ type: 'xfs', bytes: 2 * 2 ** 30 });
  });
  afterAll(() => disk[Symbol.asyncDispose]());
  beforeEach(async () => {
    nodes = await createNodes({ cache: disk.directory });
  });
  afterEach(async () => {
    await nodes[Symbol.asyncDispose]();
    for (const name of readdirSync(disk.directory)) rmSync(join(disk.directory, name), { recursive: true });
  });

  const workspaces = (node: { readonly cache: string }) => readdirSync(join(node.cache, 'workspaces')).sort();

  it('are in the repository soon after they were made, while it is staged', async () => {
    const volume = await nodes.workspace('one');
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, holder: { node: 'n1' }, lower: volume.version });
    writeFileSync(join(at, 'new'), 'written');
    writeFileSync(join(at, 'a'), 'changed');
    rmSync(join(at, 'b'));
    const saved = await until('a save', async () => {
      const { version } = await nodes.read(volume.id);
      return version === volume.version ? undefined : version;
    });
    expect(await nodes.content(saved)).toEqual({ a: 'changed', 'folder/c': 'first folder/c', new: 'written' });
    const state = node.node.saves.stateOf(volume.id);
    expect(state).toMatchObject({ generation: 1, version: saved });
    await until('nothing is late', () => node.node.saves.stateOf(volume.id)!.lag < 2_000, 90_000);
    expect(node.node.saves.stateOf(volume.id)).not.toHaveProperty('failing');
  });

  it('are in the repository when a save that was asked for is over, and what was not changed makes no version', async () => {
    const volume = await nodes.workspace('asked', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    for (let round = 1; round <= 3; round += 1) {
      writeFileSync(join(at, 'a'), `round ${round}`);
      const { version } = await node.node.saves.saveNow(volume.id);
      expect(await nodes.content(version)).toEqual({ ...FIRST, a: `round ${round}` });
      const again = await Promise.all([1, 2, 3].map(() => node.node.saves.saveNow(volume.id)));
      expect(again.map((each) => each.version)).toEqual([version, version, version]);
    }
    const { saves } = node.node.volumes.saves.stats();
    expect(saves.created).toBe(3);
  });

  it('are saved when it is unstaged, and are there on the next node and the one after', async () => {
    const volume = await nodes.workspace('moving', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'from-1'), '1');
    await expect(second.stage(volume)).rejects.toThrow(HeldError);
    expect(workspaces(second)).toEqual([]);
    await first.unstage(volume);
    expect(mountedBelow(nodes.directory).filter(({ mountPoint }) => mountPoint.includes(volume.id))).toEqual([]);
    const released = await nodes.read(volume.id);
    expect(released).not.toHaveProperty('holder');
    expect(await nodes.content(released.version)).toEqual({ ...FIRST, 'from-1': '1' });

    const at = await second.stage(volume);
    expect(readFileSync(join(at, 'from-1'), 'utf8')).toBe('1');
    writeFileSync(join(at, 'from-2'), '2');
    await second.unstage(volume);
    const back = await first.stage(volume);
    expect(readFileSync(join(back, 'from-2'), 'utf8')).toBe('2');
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 3, holder: { node: 'n1' } });
    rmSync(join(back, 'from-1'));
    await first.unstage(volume);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, 'from-2': '2' });
    expect(await nodes.read(volume.id)).not.toHaveProperty('aside');
  });

  it('stay in its image where the same node stages it again, and what follows is saved as little as before', async () => {
    const volume = await nodes.workspace('again', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'one'), '1');
    await node.unstage(volume);
    const at = await node.stage(volume);
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, lower: volume.version });
    writeFileSync(join(at, 'two'), '2');
    await node.unstage(volume);
    const { version } = await nodes.read(volume.id);
    expect(await nodes.content(version)).toEqual({ ...FIRST, one: '1', two: '2' });
  });

  it('are kept where the repository is away when it is unstaged, and saved when it is back; others wait until then', async () => {
    const volume = await nodes.workspace('away', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    const { location } = nodes.repository;
    renameSync(location, `${location}.away`);
    await node.unstage(volume);
    expect(existsSync(join(node.cache, 'workspaces', `${volume.id}.xfs`))).toBe(true);
    expect(node.node.saves.stateOf(volume.id)).toHaveProperty('failing');
    // Nothing was written to where the disk was.
    expect(existsSync(location)).toBe(false);
    renameSync(`${location}.away`, location);
    const second = await nodes.open('n2');
    await expect(second.stage(volume)).rejects.toThrow(HeldError);
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(readFileSync(join(await second.stage(volume), 'late'), 'utf8')).toBe('kept');
  });

  it('that are made after it is unstaged, by somebody who still has a file open, are saved too', async () => {
    const volume = await nodes.workspace('busy', { retention: 'drop', autosave: 0 });
    const [node, second] = [await nodes.open('n1'), await nodes.open('n2')];
    const at = await node.stage(volume);
    const file = openSync(join(at, 'open'), 'w');
    try {
      writeSync(file, 'before, ');
      await node.unstage(volume);
      expect((await nodes.read(volume.id)).holder).toMatchObject({ node: 'n1', unsaved: true });
      await expect(second.stage(volume)).rejects.toThrow(HeldError);
      writeSync(file, 'after');
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(readFileSync(join(await second.stage(volume), 'open'), 'utf8')).toBe('before, after');
    expect(node.node.saves.stateOf(volume.id)).toBe(undefined);
  });

  it('are saved after the machine was started again, where nobody stages it any more', async () => {
    const volume = await nodes.workspace('rebooted', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    await nodes.open('n1');
    await until('the last save', async () => (await nodes.read(volume.id)).holder === undefined);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, late: 'kept' });
  });

  it('are there at once where the machine that was started again stages it', async () => {
    const volume = await nodes.workspace('restaged', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    const at = await (await nodes.open('n1')).stage(volume);
    expect(readFileSync(join(at, 'late'), 'utf8')).toBe('kept');
    expect(await nodes.read(volume.id)).toMatchObject({ generation: 1, holder: { node: 'n1' } });
  });

  it('go on being saved by a daemon that was started again', async () => {
    const volume = await nodes.workspace('restarted');
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    await node.close();
    writeFileSync(join(at, 'between'), 'two daemons');
    await nodes.open('n1');
    await until('a save', async () => (await nodes.read(volume.id)).version !== volume.version);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toMatchObject({ between: 'two daemons' });
  });

  it('of a node that was given up are set aside as a branch when it comes back, and change nothing of what came after', async () => {
    const volume = await nodes.workspace('split', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    const at = await first.stage(volume);
    writeFileSync(join(at, 'old'), 'saved');
    await first.node.saves.saveNow(volume.id);
    writeFileSync(join(at, 'old'), 'not saved');
    // Its mounts stay, and its pods write on.
    await first.close();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    writeFileSync(join(second.at(volume), 'new'), 'of the second');
    const { version } = await second.node.saves.saveNow(volume.id);

    const back = await nodes.open('n1', { autosave: 300 });
    await expect(back.node.saves.saveNow(volume.id)).rejects.toThrow(FencedError);
    const branch = 'aside/split/n1-1';
    expect(back.node.saves.stateOf(volume.id)).toMatchObject({ fenced: { branch } });
    const ref = await readBranch(nodes.repository, 'set', branch);
    expect(await nodes.content(ref!.version)).toEqual({ ...FIRST, old: 'not saved' });
    expect(await nodes.read(volume.id)).toMatchObject({ version, generation: 2, aside: [branch] });
    expect(await nodes.content(version)).toEqual({ ...FIRST, old: 'saved', new: 'of the second' });

    // The pod goes on, and what it still writes is kept as well; then the image goes.
    writeFileSync(join(at, 'later'), 'still not saved');
    await back.unstage(volume);
    const again = await readBranch(nodes.repository, 'set', `${branch}-2`);
    expect(await nodes.content(again!.version)).toEqual({ ...FIRST, old: 'not saved', later: 'still not saved' });
    expect(workspaces(back)).toEqual([]);
    expect((await nodes.read(volume.id)).version).toBe(version);
  });

  it('of an older generation are set aside when the node stages it again, which begins on what came after', async () => {
    const volume = await nodes.workspace('stale', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'old'), 'not saved');
    await first.reboot();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    writeFileSync(join(second.at(volume), 'new'), 'of the second');
    await second.unstage(volume);

    const back = await nodes.open('n1');
    const at = await back.stage(volume);
    expect(readdirSync(at).sort()).toEqual(['a', 'b', 'folder', 'new']);
    const ref = await until('the branch', () => readBranch(nodes.repository, 'set', 'aside/stale/n1-1'));
    expect(await nodes.content(ref.version)).toEqual({ ...FIRST, old: 'not saved' });
    await until('its image goes', () => !workspaces(back).some((name) => name.includes('%40')));
    await back.unstage(volume);
    expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, new: 'of the second' });
  });

  it('of a node that had all saved leave nothing behind when another had it since', async () => {
    const volume = await nodes.workspace('clean', { retention: 'drop', autosave: 0 });
    const [first, second] = [await nodes.open('n1'), await nodes.open('n2')];
    writeFileSync(join(await first.stage(volume), 'one'), 'saved');
    await first.node.saves.saveNow(volume.id);
    await first.reboot();
    await until('it is given up', () => second.stage(volume).catch(() => undefined), GIVE_UP * 5);
    const back = await nodes.open('n1');
    await until('its image goes', () => workspaces(back).length === 0);
    expect(await nodes.read(volume.id)).not.toHaveProperty('aside');
  });

  it('are saved by another process where the one that saves is killed, again and again', async () => {
    const volume = await nodes.workspace('killed', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    const { saves } = node.node.volumes;
    for (let round = 0; round < 3; round += 1) {
      for (let i = 0; i < 500; i += 1) writeFileSync(join(at, `f${i}`), `${round} ${i}`);
      const saved = saves.saveNow(volume.id);
      const ended = saved.catch(() => undefined);
      const pid = await until('it is started', () => saves.stats().saverPid);
      await setTimeout(round * 60);
      process.kill(pid, 'SIGKILL');
      await ended;
      const { version } = await saves.saveNow(volume.id);
      expect(saves.stats().saverPid).not.toBe(pid);
      const content = await nodes.content(version);
      expect(Object.keys(content).length).toBe(503);
      expect(content.f499).toBe(`${round} 499`);
    }
    expect(workspaces(node).filter((name) => name.includes('.clone'))).toEqual([]);
    await node.unstage(volume);
    expect(mountedBelow(nodes.directory).filter(({ mountPoint }) => mountPoint.includes(volume.id))).toEqual([]);
  });

  it('are saved where the disk of the cache has no reflink, too', async () => {
    const plain = await createNodes();
    try {
      const volume = await plain.workspace('plain');
      const node = await plain.open('n1');
      const at = await node.stage(volume);
      writeFileSync(join(at, 'a'), 'changed');
      await until('a save', async () => (await plain.read(volume.id)).version !== volume.version);
      expect(await plain.content((await plain.read(volume.id)).version)).toEqual({ ...FIRST, a: 'changed' });
      writeFileSync(join(at, 'late'), 'kept');
      await node.unstage(volume);
      const { version } = await plain.read(volume.id);
      expect(await plain.content(version)).toEqual({ ...FIRST, a: 'changed', late: 'kept' });
    } finally {
      await plain[Symbol.asyncDispose]();
    }
  });

  it('to a volume that was deleted meanwhile are a branch, and its image goes', async () => {
    const volume = await nodes.workspace('deleted', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    writeFileSync(join(await node.stage(volume), 'late'), 'kept');
    await node.reboot();
    await deleteVolume(nodes.repository, volume.id, { nodes: { look: async () => 0 } });
    const back = await nodes.open('n1');
    const ref = await until('the branch', () => readBranch(nodes.repository, 'set', 'aside/deleted/n1-1'));
    expect(await nodes.content(ref.version)).toEqual({ ...FIRST, late: 'kept' });
    await until('its image goes', () => workspaces(back).length === 0);
  });
});
