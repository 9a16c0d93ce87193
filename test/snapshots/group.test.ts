import { readdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAsks } from '../../controller/asks.ts';
import { createGroupSnapshot, readGroupSnapshot } from '../../controller/group-snapshots.ts';
import { createNodeObserver } from '../../controller/nodes.ts';
import { readSnapshot } from '../../controller/snapshots.ts';
import { sha256 } from '../../dataset/digest.ts';
import { digestsOfDirectory } from '../support/digests.ts';
import { canMount } from '../support/privilege.ts';
import { createSnapshotWorld, type LiveVolume, type SnapshotMessage, type SnapshotWorld, untilReady } from './world.ts';

/** Writes the same step to one volume after the other, each durable before the next: at no moment is one ahead by two. */
class Rounds {
  rounds = 0;
  readonly #volumes: readonly LiveVolume[];
  #stop = false;
  #running: Promise<void> | undefined;

  constructor(volumes: readonly LiveVolume[]) {
    this.#volumes = volumes;
  }

  start(): void {
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#stop) {
      for (const { directory } of this.#volumes) {
        const file = await open(join(directory, `step-${this.rounds}`), 'w');
        await file.write(contentOf(this.rounds));
        await file.sync();
        await file.close();
      }
      this.rounds += 1;
    }
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await this.#running;
  }

  async more(count: number): Promise<void> {
    const wanted = this.rounds + count;
    while (this.rounds < wanted) await sleep(5);
  }
}

const contentOf = (step: number) => `${step} `.repeat(200);

describe.skipIf(!canMount)('a group of workspaces on two nodes', () => {
  let world: SnapshotWorld;
  let volumes: LiveVolume[];

  beforeAll(async () => {
    world = await createSnapshotWorld(['node-1', 'node-2'], 2 * 2 ** 30);
    const [one, two] = world.nodes;
    volumes = [await one!.volume('a'), await two!.volume('b'), await one!.volume('c')];
  });
  afterAll(() => world?.[Symbol.asyncDispose]());

  const kept = () =>
    world.nodes.flatMap(({ node }) =>
      readdirSync(join(node.cache, 'workspaces')).filter((name) => /\.(snap|cut)$/.test(name)),
    );
  const sources = () => volumes.map(({ volumeId }) => volumeId);

  /** How many steps each volume has whole, of those that it must have one after the other. */
  async function stepsOf(snapshots: readonly SnapshotMessage[]): Promise<number[]> {
    const steps: number[] = [];
    for (const { volumeId } of volumes) {
      const { snapshotId } = snapshots.find(({ sourceVolumeId }) => sourceVolumeId === volumeId)!;
      const content = await world.contentOf((await readSnapshot(world.repository, snapshotId)).version as string);
      let step = 0;
      while (content[`step-${step}`] === sha256(Buffer.from(contentOf(step)))) step += 1;
      // Nothing whole comes after what is not there.
      expect(Object.keys(content).filter((name) => name.startsWith('step-')).length - step).toBeLessThanOrEqual(1);
      steps.push(step);
    }
    return steps;
  }

  it('is cut at one moment while writers go on', async () => {
    const [one, two] = world.nodes;
    const writer = new Rounds(volumes);
    writer.start();
    await writer.more(10);
    const before = writer.rounds;
    const request = { name: 'group', sourceVolumeIds: sources() };
    const { groupSnapshot } = await one!.call.call('CreateVolumeGroupSnapshot', request);
    await writer.more(10);
    await writer.stop();
    const snapshots: SnapshotMessage[] = groupSnapshot.snapshots;
    for (const { snapshotId } of snapshots) await untilReady(two!.call, snapshotId, two!.node);
    const [a, b, c] = (await stepsOf(snapshots)) as [number, number, number];
    expect(a).toBeGreaterThanOrEqual(before);
    expect(b).toBeLessThanOrEqual(a);
    expect(c).toBeLessThanOrEqual(b);
    expect(a - c).toBeLessThanOrEqual(1);
    const group = await readGroupSnapshot(world.repository, groupSnapshot.groupSnapshotId);
    expect(group).toMatchObject({ ready: true, name: 'group' });
    expect(group.pauseMilliseconds).toBeGreaterThan(0);
    expect(group.pauseMilliseconds).toBeLessThan(10_000);
    expect(new Set(group.snapshots.map(({ node }) => node))).toEqual(new Set(['node-1', 'node-2']));
    expect(new Set(group.snapshots.map(({ created }) => created)).size).toBe(1);
    const { groupSnapshotId } = groupSnapshot;
    const snapshotIds = snapshots.map(({ snapshotId }) => snapshotId);
    await two!.call.call('DeleteVolumeGroupSnapshot', { groupSnapshotId, snapshotIds });
    expect(kept()).toEqual([]);
  });

  it('is not cut at all where one node does not come, and nobody waits for it longer than that', async () => {
    const [one, two] = world.nodes;
    const { repository } = world;
    const context = {
      asks: createAsks({ repository, patience: 4_000 }),
      nodes: createNodeObserver({ repository }),
    };
    two!.node.pause();
    const ids = sources();
    const failed = await createGroupSnapshot(repository, { name: 'lost', sources: ids }, context).catch(
      (error) => error,
    );
    expect(failed).toMatchObject({ kind: 'unavailable' });
    expect(failed.message).toMatch(/node-2|node-1/);
    writeFileSync(join(volumes[0]!.directory, 'goes-on'), 'yes');
    two!.node.resume();
    const left = async (prefix: string) => {
      const keys: string[] = [];
      for await (const { key } of repository.bucket.list(prefix)) keys.push(key);
      return keys;
    };
    expect([...(await left('snapshots/')), ...(await left('groups/'))]).toEqual([]);
    await expect.poll(kept, { timeout: 40_000 }).toEqual([]);

    // And then it is.
    const group = { name: 'lost', sourceVolumeIds: ids };
    const { groupSnapshot } = await one!.call.call('CreateVolumeGroupSnapshot', group);
    for (const { snapshotId } of groupSnapshot.snapshots) await untilReady(one!.call, snapshotId, one!.node);
    await one!.call.call('DeleteVolumeGroupSnapshot', { groupSnapshotId: groupSnapshot.groupSnapshotId });
  });

  it('is cut at a terminal, on a node that is asked through the repository', async () => {
    const [group, ...snapshots] = world.larder('snapshot', 'create', 'a', 'b', '-m', 'both');
    expect(group).toMatchObject({ group: expect.stringMatching(/^group-/) });
    expect(snapshots).toMatchObject([{ ready: true }, { ready: true }]);
    for (const { version, volumeName } of snapshots) {
      const { directory } = volumes.find(({ name }) => name === volumeName)!;
      expect(await world.contentOf(version as string)).toEqual(await digestsOfDirectory(directory));
    }
    world.larder('snapshot', 'delete', group!.group as string);
    expect(world.larder('snapshot', 'list')).toEqual([]);
  });

  it('leaves nothing behind', async () => {
    for (const volume of volumes) await volume.end();
    expect(kept()).toEqual([]);
    expect((await world.cluster.leftovers()).filter((key) => !key.endsWith('/bell'))).toEqual([]);
  });
});
