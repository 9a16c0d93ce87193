import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { anonymousFile } from '../../system/calls.ts';
import { OP, OUT_HEADER, UNIQUE_RESENT } from './protocol.ts';
import { type FuseRequest, parseRequest } from './request.ts';
import { createRing, type RingOptions, type RingParts } from './ring.ts';
import { openNodeTable } from './ring-nodes.ts';
import { answerAtOnce, createTreeState, hexOf, NODE } from './ring-tree.ts';
import { openWaitTable, type WaitSide, type WaitTable } from './ring-wait-table.ts';
import { message, nameBody, numbersBody, randomNumbers } from './testing/messages.ts';

const { EINTR, EIO, ENOENT, ENOSYS } = constants.errno;

/** The ring without a kernel: requests in, answers by `unique` out. */
function bench(
  options: Partial<RingOptions> & Pick<RingOptions, 'resolve'>,
  parts: Partial<RingParts> = {},
  waits?: WaitTable,
) {
  const tree = createTreeState();
  const ring = createRing(
    tree,
    { deadline: 60_000, interruption: () => 'dying', ...options },
    { table: openNodeTable(anonymousFile('test')), maxRead: 2 ** 20, ...parts },
    waits,
  );
  const atOnce = answerAtOnce(tree.buffer);
  const answers = new Map<bigint, Buffer>();
  let doubled = 0;
  const port = {
    send(given: Buffer | readonly Buffer[]) {
      const answer = Buffer.isBuffer(given) ? given : Buffer.concat(given);
      const unique = answer.readBigUInt64LE(OUT_HEADER.unique);
      if (answers.has(unique)) doubled += 1;
      answers.set(unique, answer);
      return true;
    },
  };
  let unique = 0n;
  function ask(options: Parameters<typeof message>[0]): bigint {
    unique += 2n;
    give(parseRequest(message({ unique, ...options }))!);
    return options.unique ?? unique;
  }
  function give(request: FuseRequest): void {
    const answer = atOnce.answer(request);
    if (answer === undefined) ring.handle(request, port);
    else if (answer !== 'nothing') port.send(answer);
  }
  const errorOf = (asked: bigint) => {
    const answer = answers.get(asked);
    return answer && -answer.readInt32LE(OUT_HEADER.error);
  };
  const lookup = (nodeid: bigint, name: string, more = {}) =>
    ask({ opcode: OP.lookup, nodeid, body: nameBody(name), ...more });
  /** Enters `wait/<2 hex>` and looks the object up there. */
  function openObject(id: string, more = {}): bigint {
    const entered = lookup(NODE.wait, id.slice(0, 2), more);
    return lookup(answers.get(entered)!.readBigUInt64LE(OUT_HEADER.size), id, more);
  }
  const interrupt = (target: bigint) => ask({ opcode: OP.interrupt, body: numbersBody(target) });
  return { ring, give, answers, errorOf, lookup, openObject, interrupt, doubled: () => doubled };
}

/** A `resolve` that ends when the test says so. */
function controlled() {
  const calls: { id: string; signal: AbortSignal; ready(): void; absent(): void; fail(): void }[] = [];
  const resolve = (id: string, signal: AbortSignal) =>
    new Promise<'ready' | 'absent'>((done, failed) => {
      const fail = () => failed(new Error('the bucket is away'));
      calls.push({ id, signal, ready: () => done('ready'), absent: () => done('absent'), fail });
    });
  return { calls, resolve };
}

const id = sha256(Buffer.from('an object'));
const other = sha256(Buffer.from('another'));

describe('the ring', () => {
  it('holds a lookup until its object is there, and then denies that it exists', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf } = bench({ resolve });
    const asked = openObject(id);
    await sleep(20);
    expect(errorOf(asked)).toBeUndefined();
    expect(calls.map((call) => call.id)).toEqual([id]);
    calls[0]!.ready();
    await sleep(0);
    expect(errorOf(asked)).toBe(ENOENT);
    expect(ring.counters()).toMatchObject({ rings: 1, ready: 1, held: 0, resolving: 0 });
  });

  it('asks once for all who wait for one object, and again for who comes after that', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf } = bench({ resolve });
    const asked = Array.from({ length: 1000 }, () => openObject(id));
    const alone = openObject(other);
    expect(calls).toHaveLength(2);
    calls[0]!.ready();
    await sleep(0);
    expect(new Set(asked.map(errorOf))).toEqual(new Set([ENOENT]));
    expect(errorOf(alone)).toBeUndefined();
    openObject(id);
    expect(calls).toHaveLength(3);
    expect(ring.counters()).toMatchObject({ rings: 1002, held: 2, resolving: 2 });
  });

  it('fails with EIO what could not be fetched, and says so once', async () => {
    const { calls, resolve } = controlled();
    const failures: unknown[] = [];
    const { ring, openObject, errorOf } = bench({ resolve, onFailure: (...failure) => failures.push(failure) });
    const asked = [openObject(id), openObject(id)];
    calls[0]!.fail();
    await sleep(0);
    expect(asked.map(errorOf)).toEqual([EIO, EIO]);
    expect(failures).toEqual([[id, new Error('the bucket is away')]]);
    expect(ring.counters()).toMatchObject({ failed: 2, held: 0, resolving: 0 });
  });

  it('ends every wait at the deadline with EIO, and calls the fetching off', async () => {
    const { calls, resolve } = controlled();
    const failures: string[] = [];
    const onFailure = (of: string, error: unknown) => failures.push(`${of}: ${(error as Error).message}`);
    const { ring, openObject, errorOf } = bench({ resolve, deadline: 30, onFailure });
    const first = openObject(id);
    await sleep(20);
    const second = openObject(id);
    await sleep(20);
    expect([errorOf(first), errorOf(second)]).toEqual([EIO, undefined]);
    expect(calls[0]!.signal.aborted).toBe(false);
    await sleep(30);
    expect(errorOf(second)).toBe(EIO);
    expect(calls[0]!.signal.aborted).toBe(true);
    calls[0]!.ready();
    await sleep(0);
    expect(ring.counters()).toMatchObject({ expired: 2, ready: 0, held: 0, resolving: 0 });
    expect(failures).toEqual(Array(2).fill(`${id}: object ${id} did not come within 0.03 s`));
  });

  it('lets a killed process go at once, and calls the fetching off when it was the last', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf, interrupt } = bench({ resolve });
    const [first, second] = [openObject(id), openObject(id)];
    interrupt(first);
    expect([errorOf(first), errorOf(second)]).toEqual([EINTR, undefined]);
    expect(calls[0]!.signal.aborted).toBe(false);
    interrupt(second);
    expect(errorOf(second)).toBe(EINTR);
    expect(calls[0]!.signal.aborted).toBe(true);
    const third = openObject(id);
    expect(calls).toHaveLength(2);
    calls[0]!.fail();
    await sleep(0);
    expect(errorOf(third)).toBeUndefined();
    calls[1]!.ready();
    await sleep(0);
    expect(errorOf(third)).toBe(ENOENT);
    expect(ring.counters()).toMatchObject({ interrupted: 2, ready: 1, failed: 0, held: 0, resolving: 0 });
  });

  it('ignores an interrupt of a request that it does not hold', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf, interrupt } = bench({ resolve });
    const asked = openObject(id);
    interrupt(asked + 1000n);
    calls[0]!.ready();
    await sleep(0);
    interrupt(asked);
    expect(errorOf(asked)).toBe(ENOENT);
    expect(ring.counters()).toMatchObject({ interrupted: 0, watched: 0 });
  });

  it('sits a signal out that is no reason to end, and still notices when the process is killed', async () => {
    const { resolve } = controlled();
    let state: 'busy' | 'dying' = 'busy';
    const { ring, openObject, errorOf, interrupt } = bench({ resolve, interruption: () => state });
    const asked = openObject(id);
    interrupt(asked);
    await sleep(80);
    expect(errorOf(asked)).toBeUndefined();
    expect(ring.counters()).toMatchObject({ watched: 1 });
    state = 'dying';
    await expect.poll(() => errorOf(asked), { timeout: 1000 }).toBe(EINTR);
    expect(ring.counters()).toMatchObject({ watched: 0, held: 0, interrupted: 1 });
  });

  it('says EINTR in fault/, once, to the thread whose wait was interrupted, and EIO to any other', () => {
    const { resolve } = controlled();
    const { ring, openObject, errorOf, interrupt, lookup } = bench({ resolve });
    const hex = id.slice(0, 2);
    interrupt(openObject(id, { pid: 70 }));
    expect(errorOf(lookup(NODE.fault, hex, { pid: 71 }))).toBe(EIO);
    expect(errorOf(lookup(NODE.fault, hex, { pid: 70 }))).toBe(EINTR);
    expect(errorOf(lookup(NODE.fault, hex, { pid: 70 }))).toBe(EIO);
    expect(ring.counters()).toMatchObject({ faults: 3 });
  });

  it('answers a request that is sent again under its new number, once', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf, give, answers, lookup } = bench({ resolve });
    const asked = openObject(id);
    const entered = answers.get(lookup(NODE.wait, id.slice(0, 2)))!.readBigUInt64LE(OUT_HEADER.size);
    const again = asked | UNIQUE_RESENT;
    give(parseRequest(message({ opcode: OP.lookup, unique: again, nodeid: entered, body: nameBody(id) }))!);
    calls[0]!.ready();
    await sleep(0);
    expect([errorOf(asked), errorOf(again)]).toEqual([undefined, ENOENT]);
    expect(ring.counters()).toMatchObject({ rings: 1, ready: 1, held: 0 });
  });

  describe('that goes on where another ring was', () => {
    const DEADLINE = 60_000;
    /** Rings one after the other, each of which is sent again what the one before did not answer. */
    function succession() {
      const memory = anonymousFile('test-waits');
      const clock = { time: 1000 };
      const entered = (1n << 62n) | (BigInt(Number.parseInt(id.slice(0, 2), 16)) << 48n) | 1n;
      return {
        clock,
        come(side: WaitSide = 'daemon') {
          const { calls, resolve } = controlled();
          const failures: string[] = [];
          const options = {
            resolve,
            deadline: DEADLINE,
            now: () => clock.time,
            onFailure: (_: string, error: unknown) => failures.push((error as Error).message),
          };
          const one = bench(options, {}, openWaitTable(memory, 7, side));
          return { ...one, calls, failures, send: (unique: bigint) => one.lookup(entered, id, { unique }) };
        },
      };
    }

    it('ends at the deadline what began there, and lets wait what comes anew', async () => {
      const { clock, come } = succession();
      const first = come();
      first.send(2n);
      first.ring.release();
      clock.time += DEADLINE + 1;
      const second = come();
      second.send(2n | UNIQUE_RESENT);
      // Its last chance, of which the next one sees only that it was had.
      expect(second.ring.counters()).toMatchObject({ held: 1, carried: 1, lastChances: 1 });
      second.ring.release();
      clock.time += DEADLINE;
      const third = come();
      const [old, fresh] = [third.send(2n | UNIQUE_RESENT), third.send(4n)];
      await expect.poll(() => third.errorOf(old), { timeout: 10_000, interval: 1 }).toBe(EIO);
      expect(third.errorOf(fresh)).toBeUndefined();
      expect(third.failures).toEqual([`object ${id} did not come within 60 s`]);
      expect(third.ring.counters()).toMatchObject({ held: 1, expired: 1, carried: 1, lastChances: 0 });
      third.ring.release();
    });

    it('brings in the last chance what can be brought', async () => {
      const { clock, come } = succession();
      come().send(2n);
      clock.time += DEADLINE - 1;
      const next = come();
      const asked = next.send(2n | UNIQUE_RESENT);
      await sleep(5);
      next.calls[0]!.ready();
      await sleep(0);
      expect(next.errorOf(asked)).toBe(ENOENT);
      expect(next.ring.counters()).toMatchObject({ held: 0, ready: 1, lastChances: 1 });
    });
  });

  it('gives each caller a directory of its own, and one again that was left', async () => {
    const { calls, resolve } = controlled();
    const { lookup, answers } = bench({ resolve });
    const enter = () => answers.get(lookup(NODE.wait, id.slice(0, 2)))!.readBigUInt64LE(OUT_HEADER.size);
    const [first, second] = [enter(), enter()];
    expect(first).not.toBe(second);
    expect([hexOf(first), hexOf(second)]).toEqual([id.slice(0, 2), id.slice(0, 2)]);
    lookup(first, id);
    calls[0]!.ready();
    await sleep(0);
    expect(enter()).toBe(first);
    expect(enter()).not.toBe(first);
  });

  it('leaves the waiting unanswered when it is released, and calls the fetching off', async () => {
    const { calls, resolve } = controlled();
    const { ring, openObject, errorOf } = bench({ resolve });
    const asked = openObject(id);
    ring.release();
    expect(calls[0]!.signal.aborted).toBe(true);
    calls[0]!.fail();
    await sleep(0);
    expect(errorOf(asked)).toBeUndefined();
    expect(ring.counters()).toMatchObject({ held: 0, resolving: 0 });
  });

  it('knows no other names, and no other operations', () => {
    const { resolve } = controlled();
    const { lookup, errorOf, openObject, ring, give } = bench({ resolve });
    for (const [node, name] of [
      [NODE.root, 'other'],
      [NODE.wait, 'zz'],
      [NODE.wait, 'AB'],
      [NODE.wait, 'abc'],
      [77n, 'wait'],
    ] as const)
      expect(errorOf(lookup(node, name))).toBe(ENOENT);
    expect(errorOf(openObject(`${id.slice(0, 2)}short`))).toBe(ENOENT);
    give(parseRequest(message({ opcode: 5, unique: 900n }))!);
    expect(errorOf(900n)).toBe(ENOSYS);
    expect(ring.counters().rings).toBe(0);
  });

  it('survives any sequence of messages, and answers none twice', async () => {
    const random = randomNumbers(2);
    const opcodes = Object.values(OP).filter((opcode) => opcode !== OP.init);
    const inside = [1n, 2n, 3n, 4n].map((serial) => (1n << 62n) | serial);
    const nodes = [NODE.root, NODE.wait, NODE.fault, ...inside, 1n << 63n, 2n ** 64n - 1n];
    const objects = [`00${id.slice(2)}`, `00${other.slice(2)}`, '0'.repeat(64)];
    const names = ['wait', 'fault', '00', id, ...objects, '\xff', 'x'.repeat(300)];
    const resolve = async () => {
      await sleep(random(3));
      if (random(3) === 0) throw new Error('no');
      return random(2) === 0 ? ('ready' as const) : ('absent' as const);
    };
    const { ring, give, doubled } = bench({
      resolve,
      deadline: 2,
      interruption: () => (['busy', 'dying', 'asked'] as const)[random(3)]!,
    });
    for (let round = 0; round < 20_000; round += 1) {
      const unique = BigInt(round + 1) * 2n;
      const body =
        random(2) === 0
          ? nameBody(names[random(names.length)]!)
          : numbersBody(...Array.from({ length: random(8) }, () => BigInt(random(round + 2)) * 2n));
      const opcode = random(10) === 0 ? random(100) : random(2) === 0 ? OP.lookup : opcodes[random(opcodes.length)]!;
      if (opcode === OP.init) continue;
      give(parseRequest(message({ opcode, unique, nodeid: nodes[random(nodes.length)]!, body, pid: random(3) }))!);
      if (round % 500 === 0) await sleep(1);
    }
    await expect.poll(() => ring.counters(), { timeout: 5000 }).toMatchObject({ held: 0, watched: 0, resolving: 0 });
    const { rings, ready, absent, failed, expired, interrupted } = ring.counters();
    expect(ready + absent + failed + expired + interrupted).toBe(rings);
    expect(rings).toBeGreaterThan(500);
    expect(doubled()).toBe(0);
  });
});
