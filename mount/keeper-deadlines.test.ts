import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount } from '../test/support/privilege.ts';
import { contentOf } from './fuse/testing/contents.ts';
import { createKept, heldBy, type Kept } from './fuse/testing/kept.ts';
import { outputOf, type Running, start } from './fuse/testing/processes.ts';
import { connectKeeper } from './keeper-client.ts';

/** More than fit into a deadline and a last chance; who renews the deadline goes through all of them. */
const MOST_ROUNDS = 60;

describe.skipIf(!canMount)('an open or a read that waits', { timeout: 240_000 }, () => {
  let kit: Kept;
  /** So long that no daemon here lives as long, in ms, on a machine as busy as it is now. */
  let deadline: number;
  beforeEach(async () => {
    kit = await createKept(10);
    const began = performance.now();
    await kit.kill(await kit.keeper());
    deadline = 3000 + Math.ceil(5 * (performance.now() - began));
  });
  afterEach(() => kit.cleanup());

  const hasEnded = (one: Running) => one.child.exitCode !== null || one.child.signalCode !== null;
  const uncached = (path: string) => kit.track(start('dd', [`if=${path}`, 'iflag=direct', 'bs=1M', 'status=none']));

  async function expectFailed(one: Running): Promise<void> {
    expect(await one.ended).toBe(1);
    expect(one.output()).toContain('Input/output error');
  }

  /** Starts a daemon after the other, and kills each when it has taken the ring, until all who wait have ended. */
  async function replaceUntilEnded(first: Running, waiting: readonly Running[], stream: boolean): Promise<void> {
    let current = first;
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      await kit.kill(current);
      if (waiting.every(hasEnded)) return;
      current = await kit.daemon({ delay: -1, deadline, stream }, 'up: joined');
    }
    throw new Error(`after ${MOST_ROUNDS} daemons it still waits`);
  }

  it.each([
    { what: 'opens', stream: false },
    { what: 'reads of files of the ring', stream: true },
  ])('ends with EIO though no daemon lives as long as its deadline: $what', async ({ stream }) => {
    const kept = await kit.keeper();
    const first = await kit.daemon({ delay: -1, deadline, stream }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const waiting = [uncached(`${version}/f0`), uncached(`${version}/f1`)];
    for (const one of waiting) await kit.untilWaiting(one);
    await replaceUntilEnded(first, waiting, stream);
    for (const one of waiting) await expectFailed(one);
    await kit.daemon({ stream }, 'up: joined');
    expect(await outputOf(uncached(`${version}/f0`))).toBe(contentOf(0).toString());
  });

  it('gets its bytes from the third daemon, which knows that it waited before', async () => {
    const kept = await kit.keeper();
    let current = await kit.daemon({ delay: -1 }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const waiting = [kit.cat(`${version}/f0`), kit.cat(`${version}/f1`)];
    for (const one of waiting) await kit.untilWaiting(one);
    await kit.kill(current);
    current = await kit.daemon({ delay: -1 }, 'up: joined');
    await expect.poll(() => countersOf(current), { timeout: 20_000 }).toMatchObject({ held: 2, carried: 2 });
    await kit.kill(current);
    current = await kit.daemon({}, 'up: joined');
    for (const [index, one] of waiting.entries()) expect(await outputOf(one)).toBe(contentOf(index).toString());
    expect(await countersOf(current)).toMatchObject({ held: 0, carried: 2, lastChances: 0, unwritten: 0 });
  });

  it('is known by a keeper that comes later, and goes on after it', async () => {
    const early = await kit.keeper();
    const first = await kit.daemon({ delay: -1 }, heldBy(early));
    const version = await kit.rig.overlay('version');
    const waiting = kit.cat(`${version}/f0`);
    await kit.untilWaiting(waiting);
    await kit.kill(early);
    await kit.printed(first, 'the keeper is gone');
    const later = await kit.keeper();
    await kit.printed(first, heldBy(later));
    await kit.kill(first);
    const next = await kit.daemon({}, 'up: joined');
    expect(await outputOf(waiting)).toBe(contentOf(0).toString());
    expect(await countersOf(next)).toMatchObject({ carried: 1 });
  });

  it('ends with EIO though its daemon is stopped and goes on, again and again', async () => {
    const kept = await kit.keeper(500);
    const daemon = await kit.daemon({ delay: -1, deadline }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const waiting = kit.cat(`${version}/f0`);
    await kit.untilWaiting(waiting);
    let round = 1;
    for (; round <= MOST_ROUNDS && !hasEnded(waiting); round += 1) {
      daemon.child.kill('SIGSTOP');
      await kit.printed(kept, new RegExp(`(gives no sign of life[^]*){${round}}`));
      daemon.child.kill('SIGCONT');
      await kit.printed(daemon, new RegExp(`(the keeper stood in for us[^]*){${round}}`));
    }
    expect(round).toBeLessThanOrEqual(MOST_ROUNDS);
    await expectFailed(waiting);
  });

  it('has the keeper beside it when the daemon never said that it lives', async () => {
    const kept = await kit.keeper(500);
    const first = await kit.daemon({ delay: -1 }, heldBy(kept));
    await kit.kill(first);
    await kit.printed(kept, 'standing in');
    const client = (await connectKeeper(kit.socket))!;
    await client.take('ring', 700);
    await kit.printed(kept, `process ${process.pid} gives no sign of life`);
    const version = await kit.rig.overlay('version');
    await expectFailed(kit.cat(`${version}/f0`));
    client.close();
  });
});

async function countersOf(daemon: Running): Promise<Record<string, number>> {
  const before = daemon.output().length;
  daemon.child.kill('SIGUSR2');
  await expect.poll(() => daemon.output().slice(before), { timeout: 20_000, interval: 5 }).toMatch(/^\{.*\}$/m);
  return JSON.parse(/^\{.*\}$/m.exec(daemon.output().slice(before))![0]) as Record<string, number>;
}
