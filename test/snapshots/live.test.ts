import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSnapshot } from '../../controller/snapshots.ts';
import { sha256 } from '../../dataset/digest.ts';
import { digestsOfDirectory } from '../support/digests.ts';
import { canMount } from '../support/privilege.ts';
import { createSnapshotWorld, type SnapshotWorld, type TestNode, untilReady } from './world.ts';

/** Files that are written one after the other, each durable before the next. */
class Writer {
  readonly finished: { readonly name: string; readonly digest: string }[] = [];
  readonly #directory: string;
  #stop = false;
  #running: Promise<void> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  start(): void {
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    for (let i = 0; !this.#stop; i++) {
      const name = `written-${i}.bin`;
      const bytes = randomBytes(1000 + ((i * 7919) % 50_000));
      const file = openSync(join(this.#directory, name), 'w');
      writeSync(file, bytes);
      fsyncSync(file);
      closeSync(file);
      this.finished.push({ name, digest: createHash('sha256').update(bytes).digest('hex') });
      await sleep(1);
    }
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await this.#running;
  }

  async atLeast(count: number): Promise<void> {
    while (this.finished.length < count) await sleep(5);
  }
}

describe.skipIf(!canMount)('a snapshot of a workspace that is written to', () => {
  let world: SnapshotWorld;
  let one: TestNode;
  const kept = () => readdirSync(join(one.node.cache, 'workspaces')).filter((name) => /\.(snap|cut)$/.test(name));

  beforeAll(async () => {
    world = await createSnapshotWorld(['node-1']);
    one = world.nodes[0] as TestNode;
  });
  afterAll(() => world?.[Symbol.asyncDispose]());

  it('has all that was finished before, and is ready when a repository has it', async () => {
    const volume = await one.volume('live');
    const writer = new Writer(volume.directory);
    writer.start();
    await writer.atLeast(40);
    const before = [...writer.finished];
    const { snapshot } = await one.call.call('CreateSnapshot', { name: 'of live', sourceVolumeId: volume.volumeId });
    const { snapshotId } = snapshot;
    await writer.atLeast(before.length + 20);
    await untilReady(one.call, snapshotId, one.node);
    await writer.stop();
    const { version, pauseMilliseconds, node } = await readSnapshot(world.repository, snapshotId);
    expect(node).toBe('node-1');
    expect(pauseMilliseconds).toBeLessThan(5_000);
    const content = await world.contentOf(version as string);
    for (const { name, digest } of before) expect([name, content[name]]).toEqual([name, digest]);
    expect(content['deep/3.bin']).toBe(sha256(Buffer.from('3 '.repeat(503))));
    expect(Object.keys(content).length).toBeLessThan(writer.finished.length + 8);
    expect(kept()).toEqual([]);
    // Nothing of it is missing.
    world.larder('verify', '--deep');

    // Restored, it is read where it is mounted.
    const restored = await one.volume('restored', {
      volumeContentSource: { snapshot: { snapshotId } },
      parameters: {},
    });
    expect(await digestsOfDirectory(restored.directory)).toEqual(content);
    writeFileSync(join(restored.directory, 'own.txt'), 'of the restored volume');
    expect(existsSync(join(volume.directory, 'own.txt'))).toBe(false);
    await restored.end();

    // A clone has what is there now.
    const clone = await one.volume('clone', {
      volumeContentSource: { volume: { volumeId: volume.volumeId } },
      parameters: {},
    });
    expect(await digestsOfDirectory(clone.directory)).toEqual(await digestsOfDirectory(volume.directory));
    await clone.end();
    await one.call.call('DeleteSnapshot', { snapshotId });
    await volume.end();
  });

  it('is what it was when it was cut, also where the daemon is killed before a repository has it', async () => {
    const volume = await one.volume('killed');
    for (let i = 0; i < 12; i++) writeFileSync(join(volume.directory, `big-${i}`), randomBytes(4 * 2 ** 20));
    const before = await digestsOfDirectory(volume.directory);
    const { snapshot } = await one.call.call('CreateSnapshot', { name: 'of killed', sourceVolumeId: volume.volumeId });
    await one.node.stop('SIGKILL');
    expect(kept()).toHaveLength(2);
    for (let i = 0; i < 12; i++) rmSync(join(volume.directory, `big-${i}`));
    writeFileSync(join(volume.directory, 'deep/1.bin'), 'changed since');
    await one.node.start();
    await untilReady(one.call, snapshot.snapshotId, one.node);
    const { version } = await readSnapshot(world.repository, snapshot.snapshotId);
    expect(await world.contentOf(version as string)).toEqual(before);
    expect(kept()).toEqual([]);
    const again = { name: 'of killed', sourceVolumeId: volume.volumeId };
    expect((await one.call.call('CreateSnapshot', again)).snapshot.snapshotId).toBe(snapshot.snapshotId);
    await one.call.call('DeleteSnapshot', { snapshotId: snapshot.snapshotId });
    await volume.end();
  });

  it('becomes ready also where the whole machine goes down, and comes up again', async () => {
    const volume = await one.volume('down');
    writeFileSync(join(volume.directory, 'new.bin'), randomBytes(6 * 2 ** 20));
    const before = await digestsOfDirectory(volume.directory);
    const { snapshot } = await one.call.call('CreateSnapshot', { name: 'of down', sourceVolumeId: volume.volumeId });
    await one.node.crash();
    expect(kept()).toHaveLength(2);
    await one.node.start();
    await untilReady(one.call, snapshot.snapshotId, one.node);
    const { version } = await readSnapshot(world.repository, snapshot.snapshotId);
    expect(await world.contentOf(version as string)).toEqual(before);
    await one.call.call('DeleteSnapshot', { snapshotId: snapshot.snapshotId });
    await volume.end();
  });

  it('becomes ready also where its volume is unstaged and deleted meanwhile', async () => {
    const volume = await one.volume('deleted');
    writeFileSync(join(volume.directory, 'new.txt'), 'n'.repeat(100_000));
    const before = await digestsOfDirectory(volume.directory);
    const { snapshot } = await one.call.call('CreateSnapshot', { name: 'of deleted', sourceVolumeId: volume.volumeId });
    await volume.end();
    await untilReady(one.call, snapshot.snapshotId, one.node);
    const { version } = await readSnapshot(world.repository, snapshot.snapshotId);
    expect(await world.contentOf(version as string)).toEqual(before);
    await one.call.call('DeleteSnapshot', { snapshotId: snapshot.snapshotId });
  });

  it('that is deleted at once leaves no clone', async () => {
    const volume = await one.volume('dropped');
    writeFileSync(join(volume.directory, 'new.bin'), randomBytes(8 * 2 ** 20));
    const { snapshot } = await one.call.call('CreateSnapshot', { name: 'dropped', sourceVolumeId: volume.volumeId });
    await one.call.call('DeleteSnapshot', { snapshotId: snapshot.snapshotId });
    await expect.poll(kept, { timeout: 30_000 }).toEqual([]);
    await volume.end();
  });

  it('is made, shown, named and forgotten at a terminal', async () => {
    const volume = await one.volume('pvc-terminal');
    writeFileSync(join(volume.directory, 'labels.txt'), 'cat');
    const [first] = world.larder(
      'snapshot',
      'create',
      'pvc-terminal',
      '-m',
      'labels',
      '--tag',
      'labelled',
      '--branch',
      'work',
    );
    expect(first).toMatchObject({ volumeName: 'pvc-terminal', ready: true, dataset: 'numbers', node: 'node-1' });
    const content = await world.contentOf(first!.version as string);
    expect(content).toEqual(await digestsOfDirectory(volume.directory));
    expect(world.larder('show', 'numbers@labelled')).toMatchObject([
      { version: first!.version, message: 'labels', author: 'Ada Lovelace' },
    ]);
    writeFileSync(join(volume.directory, 'labels.txt'), 'cat, dog');
    // The branch follows, since a snapshot follows on the one before.
    const [second] = world.larder('snapshot', 'create', volume.volumeId, '--branch', 'work');
    expect(world.larder('show', 'numbers@work')).toMatchObject([
      { version: second!.version, parents: [first!.version] },
    ]);
    expect(world.larder('snapshot', 'list', 'pvc-terminal')).toMatchObject([first!, second!]);
    const id = second!.snapshot as string;
    expect(world.larder('snapshot', 'show', id.slice(0, 20))).toMatchObject([{ snapshot: id, ready: true }]);
    world.larder('snapshot', 'branch', id, 'aside');
    world.larder('snapshot', 'tag', id, 'two');
    expect(world.larder('show', 'numbers@aside')).toMatchObject([{ version: second!.version }]);
    expect(world.larder('show', 'numbers@two')).toMatchObject([{ version: second!.version }]);
    expect(() => world.larder('snapshot', 'branch', first!.snapshot as string, 'aside')).toThrow(/does not follow/);
    // Where it is mounted, it is found too, and the tag is all there is of its snapshot.
    writeFileSync(join(volume.directory, 'labels.txt'), 'cat, dog, owl');
    for (const [at, tag] of [
      [volume.directory, 'of-pod'],
      [volume.stagingPath, 'of-node'],
    ] as const) {
      const [third] = world.larder('snapshot', 'create', at, '--tag', tag);
      expect(await world.contentOf(third!.version as string)).toEqual(await digestsOfDirectory(volume.directory));
    }
    expect(world.larder('show', 'numbers@of-pod')).toMatchObject([{ parents: [second!.version] }]);
    const again = join(world.cluster.directory, 'again');
    world.larder('snapshot', 'restore', second!.name as string, again);
    expect(await digestsOfDirectory(again)).toEqual(await world.contentOf(second!.version as string));
    world.larder('unmount', again, '--discard');
    for (const { snapshot } of [first!, second!]) world.larder('snapshot', 'delete', snapshot as string);
    expect(world.larder('snapshot', 'list', 'pvc-terminal')).toEqual([]);
    await volume.end();
  });

  it('of a directory reads only what changed since the last one', async () => {
    const directory = join(world.cluster.directory, 'work');
    mkdirSync(directory);
    world.larder('mount', 'numbers', directory, '--workspace', '--capacity', '400M');
    for (let i = 0; i < 20; i++) writeFileSync(join(directory, `f-${i}`), `${i}`.repeat(1000));
    // What is changed within a tick of the kernel's clock before a cut is looked at again.
    await sleep(100);
    const [first] = world.larder('snapshot', 'create', directory, '--tag', 'snapshot-1');
    expect(first).toMatchObject({ filesRead: 20 });
    writeFileSync(join(directory, 'f-3'), 'changed');
    await sleep(100);
    const [second] = world.larder('snapshot', 'create', directory, '--tag', 'snapshot-2', '--branch', 'mine');
    expect(second).toMatchObject({ filesRead: 1, bytesRead: 7, parent: first!.version });
    expect(await world.contentOf(second!.version as string)).toEqual(await digestsOfDirectory(directory));
    world.larder('unmount', directory, '--discard');
  });

  it('leaves nothing behind', async () => {
    expect(kept()).toEqual([]);
    await expect.poll(() => one.node.leftovers(), { timeout: 20_000 }).toEqual([]);
    expect((await world.cluster.leftovers()).filter((key) => !key.endsWith('/bell'))).toEqual([]);
  });
});
