import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { type BreakingProxy, startBreakingProxy } from '../support/breaking-proxy.ts';
import { digestsOfDirectory, type TreeDigests } from '../support/digests.ts';
import { canMount } from '../support/privilege.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';
import { createLossWorld, type LossWorld, untilAllowed } from './world.ts';

/** How long the end of a pod may take while its changes cannot be saved, in milliseconds. */
const UNSTAGED_WITHIN = 60_000;

describe.skipIf(!canMount || !hasS3Server)('a bucket that is away when a volume is unstaged', () => {
  let server: S3Server;
  let proxy: BreakingProxy;
  let world: LossWorld;

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startBreakingProxy(server.endpoint);
    const location = await server.location('volumes');
    world = await createLossWorld(location, proxy.location(location));
  }, S3_SERVER_TIMEOUT);
  beforeEach(() => {
    onTestFailed(() => console.error(world.logs()));
    proxy.plan = () => undefined;
  });
  afterAll(async () => {
    if (proxy) proxy.plan = () => undefined;
    await world?.[Symbol.asyncDispose]();
    await proxy?.close();
    await server?.close();
  });

  /** A pod has written, and the bucket goes away. */
  async function writeUnsaved(name: string) {
    const volumeId = await world.createWorkspace(name, 'off');
    const there = world.first.of(volumeId);
    await there.stage();
    await there.publish('pod');
    writeFileSync(join(there.targetOf('pod'), 'result.txt'), `of ${name}`);
    const written = await digestsOfDirectory(there.targetOf('pod'));
    proxy.plan = () => ({ kind: 'refuse' });
    await there.unpublish('pod');
    return { volumeId, there, written };
  }

  async function expectStagedElsewhere(volumeId: string, written: TreeDigests): Promise<void> {
    const { second, cluster } = world;
    const here = second.of(volumeId);
    await untilAllowed(() => here.stageOnce());
    await here.publish('pod');
    expect(await digestsOfDirectory(here.targetOf('pod'))).toEqual(written);
    await here.unpublish('pod');
    await here.unstage();
    await second.caller.call('DeleteVolume', { volumeId });
    expect(await world.asides()).toEqual([]);
    await expect.poll(() => world.leftovers()).toEqual([]);
    expect(await cluster.leftovers()).toEqual([]);
  }

  it('does not keep the pod, and gets the changes when it is back; until then, no other node has the volume', async () => {
    const { volumeId, there, written } = await writeUnsaved('away');
    const began = performance.now();
    await there.unstage();
    const took = performance.now() - began;
    console.log(`unstaged without the bucket in ${Math.round(took)} ms`);
    expect(took).toBeLessThan(UNSTAGED_WITHIN);
    expect(world.first.node.mounts().filter((path) => path.includes('/kubelet/'))).toEqual([]);

    await expect(world.second.of(volumeId).stageOnce()).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(await world.second.caller.once('DeleteVolume', { volumeId })).toBe(status.FAILED_PRECONDITION);
    proxy.plan = () => undefined;
    await expectStagedElsewhere(volumeId, written);
  });

  it('gets the changes also where the machine crashes meanwhile, and nobody asks it for the volume again', async () => {
    const { volumeId, there, written } = await writeUnsaved('crashed');
    const cut = there.unstageOnce().then(
      () => 'was unstaged',
      () => 'was cut',
    );
    await sleep(2_000);
    await world.first.node.crash();
    expect(await cut).toBe('was cut');
    proxy.plan = () => undefined;
    await world.first.node.start();
    await expectStagedElsewhere(volumeId, written);
  });
});
