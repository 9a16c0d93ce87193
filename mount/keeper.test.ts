import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount } from '../test/support/privilege.ts';
import { contentOf } from './fuse/testing/contents.ts';
import { createKept, heldBy, type Kept } from './fuse/testing/kept.ts';
import { startScript } from './fuse/testing/processes.ts';
import { type Rig, storeObject } from './fuse/testing/rig.ts';
import { connectKeeper } from './keeper-client.ts';
import { parseKeeperRequest } from './keeper-protocol.ts';

describe.skipIf(!canMount)('a ring that a keeper holds', () => {
  let kit: Kept;
  let rig: Rig;
  let socket: string;

  beforeEach(async () => {
    kit = await createKept(40);
    ({ rig, socket } = kit);
  });
  afterEach(() => kit.cleanup());

  const track: Kept['track'] = (running) => kit.track(running);
  const printed: Kept['printed'] = (...given) => kit.printed(...given);
  const keeper: Kept['keeper'] = (...given) => kit.keeper(...given);
  const daemon: Kept['daemon'] = (...given) => kit.daemon(...given);
  const kill: Kept['kill'] = (running) => kit.kill(running);
  const cat: Kept['cat'] = (path) => kit.cat(path);
  const read: Kept['read'] = (path) => kit.read(path);
  const untilWaiting: Kept['untilWaiting'] = (running) => kit.untilWaiting(running);

  it('serves opens that waited when the daemon was killed, once the next daemon is there', async () => {
    const kept = await keeper();
    const first = await daemon({ delay: -1 }, heldBy(kept));
    const version = await rig.overlay('version');
    const waiting = Array.from({ length: 20 }, (_, index) => cat(`${version}/f${index}`));
    for (const one of waiting) await untilWaiting(one);
    await kill(first);
    await printed(kept, 'standing in');
    const late = cat(`${version}/f20`);
    await untilWaiting(late);
    await daemon({}, 'up: joined');
    for (const [index, one] of [...waiting, late].entries()) {
      expect(await one.ended).toBe(0);
      expect(one.output()).toBe(contentOf(index).toString());
    }
    expect(await read(`${version}/f30`)).toBe(contentOf(30).toString());
  });

  it('lets waiting processes be killed, and cached files be read, while there is no daemon', async () => {
    const kept = await keeper();
    const first = await daemon({ delay: 0 }, heldBy(kept));
    const version = await rig.overlay('version');
    expect(await read(`${version}/f0`)).toBe(contentOf(0).toString());
    await kill(first);
    await printed(kept, 'standing in');
    expect(await read(`${version}/f0`)).toBe(contentOf(0).toString());
    const waiting = cat(`${version}/f1`);
    await untilWaiting(waiting);
    waiting.child.kill('SIGTERM');
    expect(await waiting.ended).toBe('SIGTERM');
  });

  it('ends opens at the deadline with EIO when no daemon comes, and serves the same files to who comes later', async () => {
    const kept = await keeper();
    const first = await daemon({ delay: -1, deadline: 600 }, heldBy(kept));
    const version = await rig.overlay('version');
    const waiting = cat(`${version}/f2`);
    await sleep(100);
    await kill(first);
    expect(await waiting.ended).toBe(1);
    expect(waiting.output()).toContain('Input/output error');
    await daemon({}, 'up: joined');
    expect(await read(`${version}/f2`)).toBe(contentOf(2).toString());
  });

  it('is handed over by a daemon that ends in good order', async () => {
    const kept = await keeper();
    const first = await daemon({ delay: -1 }, heldBy(kept));
    const version = await rig.overlay('version');
    const waiting = cat(`${version}/f3`);
    await untilWaiting(waiting);
    first.child.kill('SIGTERM');
    expect(await first.ended).toBe(0);
    await untilWaiting(waiting);
    await daemon({}, 'up: joined');
    expect(await waiting.ended).toBe(0);
    expect(waiting.output()).toBe(contentOf(3).toString());
  });

  it('survives many restarts in a row, with the same opens waiting all the time', async () => {
    const kept = await keeper();
    let current = await daemon({ delay: -1 }, heldBy(kept));
    const version = await rig.overlay('version');
    const waiting = Array.from({ length: 5 }, (_, index) => cat(`${version}/f${index}`));
    for (const one of waiting) await untilWaiting(one);
    for (let round = 0; round < 5; round += 1) {
      await kill(current);
      current = await daemon({ delay: round === 4 ? 0 : -1 }, 'up: joined');
    }
    for (const [index, one] of waiting.entries()) {
      expect(await one.ended).toBe(0);
      expect(one.output()).toBe(contentOf(index).toString());
    }
  });

  it('is held by a keeper that starts later, and by one that starts again', async () => {
    const first = await daemon({ delay: -1 });
    const version = await rig.overlay('version');
    const waiting = cat(`${version}/f4`);
    await untilWaiting(waiting);
    const early = await keeper();
    await printed(first, heldBy(early));
    await kill(early);
    await printed(first, 'the keeper is gone');
    const later = await keeper();
    await printed(first, heldBy(later));
    await kill(first);
    await daemon({}, 'up: joined');
    expect(await waiting.ended).toBe(0);
  });

  it('is lost when the keeper goes too: cached files read, others fail and are healed by objects that arrive', async () => {
    const kept = await keeper();
    const first = await daemon({}, heldBy(kept));
    const version = await rig.overlay('version');
    expect(await read(`${version}/f0`)).toBe(contentOf(0).toString());
    await kill(kept);
    await kill(first);
    expect(await read(`${version}/f0`)).toBe(contentOf(0).toString());
    await expect(read(`${version}/f1`)).rejects.toThrow(/ENOTCONN|EIO|ECONNABORTED/);
    await daemon({}, 'up: replaced');
    await expect(read(`${version}/f1`)).rejects.toThrow(/ENOTCONN|EIO|ECONNABORTED/);
    storeObject(rig.root, contentOf(1), ['objects']);
    expect(await read(`${version}/f1`)).toBe(contentOf(1).toString());
    const renewed = await rig.overlay('renewed');
    expect(await read(`${renewed}/f2`)).toBe(contentOf(2).toString());
  });

  it('is not kept where the kernel cannot send requests again: opens that wait end when the daemon does', async () => {
    const kept = await keeper();
    const first = await daemon({ delay: -1, old: true });
    const version = await rig.overlay('version');
    const waiting = cat(`${version}/f7`);
    await untilWaiting(waiting);
    await kill(first);
    expect(await waiting.ended).toBe(1);
    expect(kept.output()).not.toContain('held');
    await daemon({ old: true }, 'up: replaced');
    storeObject(rig.root, contentOf(7), ['objects']);
    expect(await read(`${version}/f7`)).toBe(contentOf(7).toString());
  });

  it('is refused to a second daemon while the first one lives', async () => {
    const kept = await keeper();
    await daemon({}, heldBy(kept));
    const client = (await connectKeeper(socket))!;
    expect(await client.list()).toMatchObject({ pid: kept.pid, rings: [{ name: 'ring', served: true }] });
    await expect(client.take('ring', 1)).rejects.toThrow(/process \d+ serves the ring/);
    await expect(client.drop('ring')).rejects.toThrow(/serves the ring/);
    await expect(client.take('other', 1)).rejects.toThrow('holds no ring other');
    await expect(client.hold('broken', 9999, (await client.list()).rings[0]!)).rejects.toThrow('EBADF');
    client.close();
  });

  it('goes on to be served by a daemon that lost only its connection to the keeper', async () => {
    const kept = await keeper();
    const first = await daemon({}, heldBy(kept));
    const version = await rig.overlay('version');
    kept.child.kill('SIGSTOP');
    expect(await read(`${version}/f5`)).toBe(contentOf(5).toString());
    kept.child.kill('SIGCONT');
    await kill(kept);
    expect(await read(`${version}/f6`)).toBe(contentOf(6).toString());
    expect(first.output()).toContain('the keeper is gone');
  });

  it('is held by one keeper: a second ends and says why, and one that was killed leaves nothing in the way', async () => {
    const kept = await keeper();
    const second = track(startScript('keeper.ts', [socket]));
    expect(await second.ended).toBe(1);
    expect(second.output()).toContain('a keeper runs already');
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    await kill(kept);
    const third = await keeper();
    third.child.kill('SIGTERM');
    expect(await third.ended).toBe(0);
    expect(await connectKeeper(socket)).toBeUndefined();
  });
});

describe('a request to the keeper', () => {
  it('is refused with the reason where it is none', () => {
    for (const [line, why] of [
      ['{', 'one JSON document a line'],
      ['null', 'not an object'],
      ['{"do":"dance"}', 'do: "dance"'],
      ['{"do":"take","name":"ring"}', 'a wrong or missing field of take'],
      ['{"do":"take","name":"","pid":4}', 'a wrong or missing field of take'],
      ['{"do":"hold","name":"ring","pid":4,"fd":-1}', 'a wrong or missing field of hold'],
      ['{"do":"hold","name":"r","pid":4,"fd":1,"deadline":5,"connection":7,"settled":{}}', 'field of hold'],
    ] as const)
      expect(() => parseKeeperRequest(line)).toThrow(why);
    expect(parseKeeperRequest('{"do":"list"}')).toEqual({ do: 'list' });
  });
});
