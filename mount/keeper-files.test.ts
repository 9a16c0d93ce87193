import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sha256 } from '../dataset/digest.ts';
import { mount } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { connectionNumber } from './fuse/device.ts';
import { contentOf } from './fuse/testing/contents.ts';
import { createKept, heldBy, type Kept } from './fuse/testing/kept.ts';
import { outputOf, type Running, start, threadStates } from './fuse/testing/processes.ts';
import { connectKeeper } from './keeper-client.ts';

const text = (index: number) => contentOf(index).toString();

async function countersOf(daemon: Running): Promise<Record<string, number>> {
  const before = daemon.output().length;
  daemon.child.kill('SIGUSR2');
  await expect.poll(() => daemon.output().slice(before), { timeout: 10_000, interval: 5 }).toMatch(/^\{.*\}$/m);
  return JSON.parse(/^\{.*\}$/m.exec(daemon.output().slice(before))![0]) as Record<string, number>;
}

describe.skipIf(!canMount)('a file of the ring, when its daemon is gone', () => {
  let kit: Kept;
  const handles: FileHandle[] = [];
  beforeEach(async () => {
    kit = await createKept(20);
  });
  afterEach(async () => {
    for (const handle of handles.splice(0)) await handle.close();
    await kit.cleanup();
  });

  async function opened(path: string): Promise<FileHandle> {
    const handle = await open(path);
    handles.push(handle);
    return handle;
  }
  const uncached = (path: string) => kit.track(start('dd', [`if=${path}`, 'iflag=direct', 'bs=1M', 'status=none']));

  it('is read on by who has it open, and opened again, once the next daemon is there', async () => {
    const kept = await kit.keeper();
    const first = await kit.daemon({ stream: true }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const handle = await opened(`${version}/f0`);
    expect(await kit.read(`${version}/f1`)).toBe(text(1));
    await kit.kill(first);
    await kit.printed(kept, 'standing in');
    const reading = handle.readFile('latin1');
    const waiting = [kit.cat(`${version}/f1`), uncached(`${version}/f1`), kit.cat(`${version}/f2`)];
    for (const one of waiting) await kit.untilWaiting(one);
    const next = await kit.daemon({ stream: true }, 'up: joined');
    expect(await reading).toBe(text(0));
    for (const [index, one] of waiting.entries()) expect(await outputOf(one)).toBe(text(index < 2 ? 1 : 2));
    expect(await countersOf(next)).toMatchObject({ fileNodes: 3, readsFailed: 0 });
  });

  it('waits no longer than the deadline, and its readers can be killed, while there is no daemon', async () => {
    const kept = await kit.keeper();
    const first = await kit.daemon({ stream: true, deadline: 1500 }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const handle = await opened(`${version}/f0`);
    expect(await kit.read(`${version}/f1`)).toBe(text(1));
    await kit.kill(first);
    await kit.printed(kept, 'standing in');
    const killed = uncached(`${version}/f1`);
    await kit.untilWaiting(killed);
    killed.child.kill('SIGKILL');
    expect(await killed.ended).toBe('SIGKILL');
    await expect(handle.readFile()).rejects.toThrow('EIO');
    const late = uncached(`${version}/f1`);
    expect(await late.ended).toBe(1);
    expect(late.output()).toContain('Input/output error');
    await kit.daemon({ stream: true }, 'up: joined');
    expect(await outputOf(uncached(`${version}/f1`))).toBe(text(1));
  });

  it('that was closed or forgotten meanwhile is so for the next daemon too', async () => {
    const kept = await kit.keeper();
    const first = await kit.daemon({ stream: true }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const handle = await open(`${version}/f0`);
    expect(await kit.read(`${version}/f1`)).toBe(text(1));
    await kit.kill(first);
    await kit.printed(kept, 'standing in');
    await handle.close();
    // The close is on its way without us, and the kernel keeps the inode until it is answered.
    const control = join(kit.rig.root, 'control');
    mkdirSync(control);
    mount({ source: 'fusectl', target: control, type: 'fusectl' });
    const waiting = join(control, String(connectionNumber(kit.rig.ring)), 'waiting');
    await expect.poll(() => readFileSync(waiting, 'latin1').trim(), { timeout: 10_000 }).toBe('0');
    await kit.rig.unmount(version);
    // Has the kernel let go of names that nobody uses.
    await outputOf(start('mount', ['-i', '-o', 'remount,ro', kit.rig.ring]));
    const next = await kit.daemon({ stream: true }, 'up: joined');
    await expect.poll(async () => (await countersOf(next)).fileNodes, { timeout: 10_000 }).toBe(0);
  });

  it('that was passed through stays so for the next daemon, and is not mixed with other opens', async () => {
    const whole = join(kit.rig.root, 'whole');
    mkdirSync(whole);
    writeFileSync(join(whole, sha256(contentOf(0))), contentOf(0));
    const kept = await kit.keeper();
    const first = await kit.daemon({ stream: true, whole }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const handle = await opened(`${version}/f0`);
    expect(await countersOf(first)).toMatchObject({ passedOpens: 1 });
    await kit.kill(first);
    rmSync(whole, { recursive: true });
    expect(await handle.readFile('latin1')).toBe(text(0));
    // The next one knows no whole file, but that this one is passed through.
    const next = await kit.daemon({ stream: true }, 'up: joined');
    expect(await kit.read(`${version}/f0`)).toBe(text(0));
    expect(await countersOf(next)).toMatchObject({ passedOpens: 1, reads: 0 });
    await handles.pop()!.close();
    await expect.poll(() => outputOf(uncached(`${version}/f0`)), { timeout: 5000 }).toBe(text(0));
    await expect.poll(async () => (await countersOf(next)).reads, { timeout: 5000 }).toBeGreaterThan(0);
  });
});

describe.skipIf(!canMount)('a daemon that gives no sign of life', () => {
  const PATIENCE = 600;
  let kit: Kept;
  beforeEach(async () => {
    kit = await createKept(20);
  });
  afterEach(() => kit.cleanup());

  it('has the keeper beside it: opens and reads end at their deadline, killed readers die, and it goes on when it is back', async () => {
    const kept = await kit.keeper(PATIENCE);
    const daemon = await kit.daemon({ delay: -1, deadline: 2500 }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const before = kit.cat(`${version}/f0`);
    await kit.untilWaiting(before);
    daemon.child.kill('SIGSTOP');
    await kit.printed(kept, `process ${daemon.pid} gives no sign of life`);
    const after = kit.cat(`${version}/f1`);
    const killed = kit.cat(`${version}/f2`);
    await kit.untilWaiting(killed);
    killed.child.kill('SIGKILL');
    expect(await killed.ended).toBe('SIGKILL');
    for (const one of [before, after]) {
      expect(await one.ended).toBe(1);
      expect(one.output()).toContain('Input/output error');
    }
    const waiting = kit.cat(`${version}/f3`);
    await kit.untilWaiting(waiting);
    daemon.child.kill('SIGCONT');
    await kit.printed(kept, `process ${daemon.pid} is back`);
    await kit.printed(daemon, 'the keeper stood in for us');
    // It holds it again: no answer came from the keeper, and its own deadline ends it.
    expect(await waiting.ended).toBe(1);
    expect(threadStates(daemon.pid)).not.toEqual([]);
    const { held, rings } = await countersOf(daemon);
    expect(held).toBe(0);
    expect(rings).toBeGreaterThan(1);
    const client = (await connectKeeper(kit.socket))!;
    expect((await client.list()).rings).toMatchObject([{ served: true, standingIn: false }]);
    client.close();
  });

  it('loses nothing that came while it was stopped: it serves that when it is back', async () => {
    const kept = await kit.keeper(PATIENCE);
    const daemon = await kit.daemon({ stream: true }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    expect(await kit.read(`${version}/f9`)).toBe(text(9));
    daemon.child.kill('SIGSTOP');
    await kit.printed(kept, 'gives no sign of life');
    const waiting = Array.from({ length: 8 }, (_, index) => kit.cat(`${version}/f${index}`));
    for (const one of waiting) await kit.untilWaiting(one);
    const gone = kit.cat(`${version}/f9`);
    await kit.untilWaiting(gone);
    daemon.child.kill('SIGCONT');
    for (const [index, one] of waiting.entries()) expect(await outputOf(one)).toBe(text(index));
    expect(await outputOf(gone)).toBe(text(9));
    expect(await countersOf(daemon)).toMatchObject({ held: 0, fileNodes: 9, readsFailed: 0 });
  });

  it('may be stuck in its main thread only: who waits can be killed all the same', async () => {
    const kept = await kit.keeper(300);
    const daemon = await kit.daemon({ delay: -1 }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const before = kit.cat(`${version}/f0`);
    await kit.untilWaiting(before);
    daemon.child.kill('SIGUSR1');
    await kit.printed(kept, 'gives no sign of life');
    const began = performance.now();
    for (const one of [before, kit.cat(`${version}/f1`)]) {
      await sleep(50);
      one.child.kill('SIGKILL');
      expect(await one.ended).toBe('SIGKILL');
    }
    expect(performance.now() - began).toBeLessThan(10_000);
    await kit.printed(kept, 'is back');
    await expect.poll(async () => (await countersOf(daemon)).held, { timeout: 5000 }).toBe(0);
  });

  it('is replaced by the next one when it is killed after all', async () => {
    const kept = await kit.keeper(PATIENCE);
    const daemon = await kit.daemon({ delay: -1 }, heldBy(kept));
    const version = await kit.rig.overlay('version');
    const waiting = kit.cat(`${version}/f5`);
    await kit.untilWaiting(waiting);
    daemon.child.kill('SIGSTOP');
    await kit.printed(kept, 'gives no sign of life');
    await kit.kill(daemon);
    await kit.daemon({}, 'up: joined');
    expect(await outputOf(waiting)).toBe(text(5));
  });
});
