import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import type { NodeIdentity } from '../dataset/volume-terms.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { freeRoom } from './free-room.ts';
import { startHeartbeat } from './heartbeat.ts';
import { decodeHeartbeat, encodeHeartbeat, heartbeatKey, type NodeFacts, nodeOfKey } from './heartbeat-record.ts';
import { createNodeObserver, isAlive } from './nodes.ts';

const A: NodeIdentity = { node: 'node-a.example', instance: 'ia' };

describeRepositories('nodes', (make) => {
  let repository: Repository;
  let now: number;
  const clock = () => now;

  beforeAll(async () => {
    repository = await initRepository(await make());
  });
  afterAll(async () => await repository.bucket.close());
  beforeEach(async () => {
    now = 1_000_000;
    for await (const { key } of repository.bucket.list('nodes/')) await repository.bucket.delete(key);
  });

  /** A node that gives a sign of life when it is told to. */
  async function startNode(node = A, facts: () => NodeFacts = () => ({})) {
    let next = Promise.withResolvers<void>();
    let waiting = Promise.withResolvers<void>();
    const errors: unknown[] = [];
    const heartbeat = startHeartbeat({
      repository,
      node,
      facts,
      onError: (error) => errors.push(error),
      wait: (_, signal) => {
        next = Promise.withResolvers<void>();
        signal.addEventListener('abort', () => next.reject(new Error('the end')));
        waiting.resolve();
        return next.promise;
      },
    });
    await waiting.promise;
    const beat = async () => {
      waiting = Promise.withResolvers<void>();
      next.resolve();
      await waiting.promise;
    };
    return { heartbeat, beat, errors };
  }

  it('are told from lost ones by who has just begun to look, as soon as they give a sign of life, and when they are given up', async () => {
    const watch = (...left: number[]) => isAlive({ look: async () => left.shift() as number }, A, { interval: 1 });
    expect(await watch(40_000, 40_000)).toBe(true);
    expect(await watch(40_000, 38_900, 37_800, 40_000)).toBe(true);
    expect(await watch(40_000, 20_000, 1_000, 0)).toBe(false);
    expect(await watch(0)).toBe(false);
    const ended = new Error('the end');
    await expect(isAlive({ look: async () => 1 }, A, { signal: AbortSignal.abort(ended) })).rejects.toThrow();
  });

  it('are alive while they give signs of life, and for 40 s after the last one', async () => {
    const node = await startNode();
    await node.heartbeat.beating;
    const observer = createNodeObserver({ repository, clock });
    expect(await observer.look(A)).toBe(40_000);
    for (let i = 0; i < 10; i++) {
      now += 10_000;
      await node.beat();
      expect(await observer.look(A)).toBe(40_000);
    }
    for (const left of [25_000, 10_000]) {
      now += 15_000;
      expect(await observer.look(A)).toBe(left);
    }
    now += 9_999;
    expect(await observer.look(A)).toBe(1);
    now += 1_001;
    expect(await observer.look(A)).toBe(0);
    expect(await observer.alive()).toEqual([]);
    // It was only away.
    await node.beat();
    expect(await observer.look(A)).toBe(40_000);
    expect(node.errors).toEqual([]);
    await node.heartbeat.stop({ remove: true });
  });

  it('are gone at once where they have taken their sign of life back, and not where they left it', async () => {
    const observer = createNodeObserver({ repository, clock });
    expect(await observer.look(A)).toBe(0);
    const node = await startNode();
    expect(await observer.look(A)).toBe(40_000);
    await node.heartbeat.stop({ remove: false });
    now += 5_000;
    expect(await observer.look(A)).toBe(35_000);
    const again = await startNode();
    now += 1_000;
    expect(await observer.look(A)).toBe(40_000);
    await again.heartbeat.stop({ remove: true });
    now += 2_000;
    expect(await observer.look(A)).toBe(0);
  });

  it('are gone where they were installed anew, which nothing that was heard before hides', async () => {
    const observer = createNodeObserver({ repository, clock });
    const node = await startNode();
    expect(await observer.look(A)).toBe(40_000);
    await node.heartbeat.stop({ remove: false });
    const anew = await startNode({ ...A, instance: 'ia2' });
    // Within the time in which what was heard holds good: the new one has written before it took anything.
    expect(await observer.look({ ...A, instance: 'ia2' })).toBe(40_000);
    expect(await observer.look(A)).toBe(0);
    await anew.heartbeat.stop({ remove: true });
  });

  it('are asked for once by all who want to know within a second', async () => {
    const node = await startNode();
    let requests = 0;
    const get: Bucket['get'] = (...parameters) => {
      requests += 1;
      return repository.bucket.get(...parameters);
    };
    const observer = createNodeObserver({ repository: { bucket: { ...methodsOf(repository.bucket), get } }, clock });
    const all = await Promise.all(Array.from({ length: 100 }, () => observer.look(A)));
    expect(new Set(all)).toEqual(new Set([40_000]));
    now += 999;
    await observer.look(A);
    expect(requests).toBe(1);
    now += 1;
    await observer.look(A);
    expect(requests).toBe(2);
    await node.heartbeat.stop({ remove: true });
  });

  it('are not given up for silence in which the repository could not be asked, or nobody asked', async () => {
    const node = await startNode();
    await node.heartbeat.stop({ remove: false });
    let away = false;
    const get: Bucket['get'] = async (...parameters) => {
      if (away) throw new UnavailableError('the bucket is away');
      return await repository.bucket.get(...parameters);
    };
    const observer = createNodeObserver({ repository: { bucket: { ...methodsOf(repository.bucket), get } }, clock });
    expect(await observer.look(A)).toBe(40_000);
    now += 18_000;
    expect(await observer.look(A)).toBe(22_000);
    away = true;
    now += 15_000;
    await expect(observer.look(A)).rejects.toThrow(UnavailableError);
    away = false;
    now += 15_000;
    expect(await observer.look(A)).toBe(40_000);
    // An hour in which nobody looked may be an hour in which nothing could be written.
    now += 3_600_000;
    expect(await observer.look(A)).toBe(20_000);
    now += 20_000;
    expect(await observer.look(A)).toBe(0);
  });

  it('give further signs of life where one could not be given', async () => {
    let full = false;
    const node = await startNode(A, () => {
      if (full) throw new Error('the disk cannot be asked');
      return { freeBytes: 7 };
    });
    const observer = createNodeObserver({ repository, clock });
    await observer.look(A);
    full = true;
    now += 10_000;
    await node.beat();
    expect(node.errors).toHaveLength(1);
    expect(await observer.look(A)).toBe(30_000);
    full = false;
    now += 10_000;
    await node.beat();
    expect(await observer.look(A)).toBe(40_000);
    await node.heartbeat.stop({ remove: true });
  });

  it('tell how much room there is for volumes: the most that a live one has', async () => {
    const observer = createNodeObserver({ repository, clock });
    expect(await freeRoom(observer)).toEqual({ available: 0, minimum: 300 * 2 ** 20, maximum: 2 ** 44 - 4096 });
    const small = await startNode(A, () => ({ freeBytes: 5_000 }));
    const silent = await startNode({ node: 'n0', instance: 'x' });
    const large = await startNode({ node: 'n1/é', instance: 'y' }, () => ({ freeBytes: 9_000 }));
    await repository.bucket.put(`nodes/n1/asks/1`, Buffer.from('no heartbeat'));
    expect((await observer.alive()).map(({ node }) => node).sort()).toEqual(['n0', 'n1/é', A.node]);
    expect(await freeRoom(observer)).toMatchObject({ available: 9_000 });
    expect(await freeRoom(observer, { node: A.node })).toMatchObject({ available: 5_000 });
    expect(await freeRoom(observer, { node: 'elsewhere' })).toMatchObject({ available: 0 });
    expect(await freeRoom(observer, { kind: 'pinned' })).toEqual({
      available: 2 ** 44 - 4096,
      minimum: 0,
      maximum: 2 ** 44 - 4096,
    });
    // The large one falls silent.
    for (let i = 0; i < 3; i++) {
      now += 14_000;
      await small.beat();
      await freeRoom(observer);
    }
    expect(await freeRoom(observer)).toMatchObject({ available: 5_000 });
    for (const each of [small, silent, large]) await each.heartbeat.stop({ remove: true });
    await repository.bucket.delete('nodes/n1/asks/1');
  });
});

describe("a node's heartbeat", () => {
  const record = { node: 'n1/é', instance: 'i', beat: 'b', freeBytes: 7 };
  const key = heartbeatKey(record.node);

  it('has this form, and is read back as it was', () => {
    expect(key).toBe('nodes/n1%2F%C3%A9/alive');
    expect(nodeOfKey(key)).toBe(record.node);
    expect(encodeHeartbeat(record).toString()).toBe(
      '{"beat":"b","format":1,"freeBytes":7,"instance":"i","node":"n1/é"}\n',
    );
    expect(decodeHeartbeat(encodeHeartbeat(record), key)).toEqual(record);
    const { freeBytes: _, ...silent } = record;
    expect(decodeHeartbeat(encodeHeartbeat(silent), key)).toEqual(silent);
  });

  it.each(['nodes/n1/asks/7', 'nodes/n1', 'nodes/a/b/alive', 'nodes//alive', 'nodes/n%2f/alive', 'volumes/n1/alive'])(
    'is told from what else lies there: %s',
    (other) => expect(nodeOfKey(other)).toBeUndefined(),
  );

  it.each([
    ['another node', { ...record, node: 'n2' }, /node is "n2"/],
    ['no instance', { ...record, instance: '' }, /instance is ""/],
    ['no beat', { ...record, beat: '' }, /beat is ""/],
    ['room below zero', { ...record, freeBytes: -1 }, /freeBytes is -1/],
  ] as [string, typeof record, RegExp][])('is refused with %s', (_, fault, message) => {
    expect(() => decodeHeartbeat(encodeHeartbeat(fault), key)).toThrow(message);
  });

  it('is of a node whose name fits a key', () => {
    expect(() => heartbeatKey('')).toThrow(/cannot be called ""/);
    expect(() => heartbeatKey('x'.repeat(201))).toThrow(/1 to 200 bytes/);
  });
});

function methodsOf(bucket: Bucket): Bucket {
  return {
    name: bucket.name,
    get: (...all) => bucket.get(...all),
    head: (...all) => bucket.head(...all),
    put: (...all) => bucket.put(...all),
    list: (...all) => bucket.list(...all),
    delete: (...all) => bucket.delete(...all),
    close: () => bucket.close(),
  };
}
