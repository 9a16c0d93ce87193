import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { anonymousFile } from '../../system/calls.ts';
import { ATTR, ENTRY_OUT, OP, OPEN_FLAG, OPEN_OUT, OUT_HEADER, UNIQUE_RESENT } from './protocol.ts';
import { parseRequest } from './request.ts';
import { createRing, type Ring } from './ring.ts';
import type { RingFile } from './ring-file.ts';
import { openNodeTable } from './ring-nodes.ts';
import { answerAtOnce, createTreeState, NODE, type TreeState } from './ring-tree.ts';
import { openWaitTable } from './ring-wait-table.ts';
import { patternBytes } from './testing/large-file.ts';
import { message, nameBody, numbersBody, randomNumbers } from './testing/messages.ts';

const seed = Number(process.env.LARDER_TEST_SEED || Date.now() % 1_000_000);
const STEPS = Number(process.env.LARDER_FUZZ_ROUNDS || 6000);
const { EIO, EINTR, ENOENT } = constants.errno;

/** What the kernel knows of a file node. */
interface KernelNode {
  readonly index: number;
  lookups: bigint;
  cached: number;
  passed: number;
  backing: number;
  /** Requests on it that are under way: it is not forgotten before they have ended. */
  busy: number;
}

interface InFlight {
  unique: bigint;
  readonly bytes: Buffer;
  readonly done: (answer: Buffer, errno: number) => void;
}

/**
 * A kernel made of nothing but its rules (Linux: fs/fuse/iomode.c, dev.c): it takes one answer for each request, under the number that
 * it has now; a node is open through the page cache or passed through to one file, never both; who breaks a rule fails the test.
 */
function createKernel(random: (below: number) => number) {
  const files = Array.from({ length: 5 }, (_, index) => ({
    id: sha256(`file ${index}`) as string,
    size: 1 + random(20_000),
  }));
  const nodes = new Map<bigint, KernelNode>();
  const inFlight = new Map<bigint, InFlight>();
  const backings = new Set<number>();
  const open: { readonly node: bigint; readonly handle: bigint; readonly passed: boolean }[] = [];
  const seen = { passed: 0, cached: 0, data: 0, EIO: 0, EINTR: 0, late: 0 };
  let unique = 0n;
  let backing = 0;
  let deliver: (bytes: Buffer) => void = () => {};

  function ask(opcode: number, nodeid: bigint, body: Buffer, done: InFlight['done']): bigint {
    unique += 2n;
    const bytes = message({ opcode, unique, nodeid, body, pid: 1 + random(3) });
    inFlight.set(unique, { unique, bytes, done });
    const key = unique;
    deliver(bytes);
    return key;
  }

  function take(answer: Buffer): boolean {
    const given = answer.readBigUInt64LE(OUT_HEADER.unique);
    const one = inFlight.get(given & ~UNIQUE_RESENT);
    if (!one || one.unique !== given) {
      seen.late += 1;
      return false;
    }
    if (answer.readUInt32LE(OUT_HEADER.length) !== answer.length) throw new Error('an answer of another length');
    inFlight.delete(given & ~UNIQUE_RESENT);
    const errno = -answer.readInt32LE(OUT_HEADER.error);
    if (errno !== 0 && errno !== EIO && errno !== EINTR && errno !== ENOENT) throw new Error(`error ${errno}`);
    if (errno === EIO) seen.EIO += 1;
    if (errno === EINTR) seen.EINTR += 1;
    one.done(answer.subarray(OUT_HEADER.size), errno);
    return true;
  }

  const acts = {
    lookup() {
      const index = random(files.length);
      const { id } = files[index]!;
      ask(OP.lookup, NODE.wait, nameBody(id.slice(0, 2)), (entered) => {
        ask(OP.lookup, entered.readBigUInt64LE(ENTRY_OUT.nodeid), nameBody(id), (body, errno) => {
          if (errno !== 0) return;
          const node = body.readBigUInt64LE(ENTRY_OUT.nodeid);
          if (Number(body.readBigUInt64LE(ENTRY_OUT.attr + ATTR.size_)) !== files[index]!.size)
            throw new Error('another size');
          const known = nodes.get(node) ?? { index, lookups: 0n, cached: 0, passed: 0, backing: 0, busy: 0 };
          if (known.index !== index) throw new Error('one node for two files');
          known.lookups += 1n;
          nodes.set(node, known);
        });
      });
    },
    open() {
      const [node, known] = pick();
      if (node === undefined || !known) return;
      known.busy += 1;
      ask(OP.open, node, numbersBody(0n), (body, errno) => {
        known.busy -= 1;
        if (errno !== 0) return;
        const passed = (body.readUInt32LE(OPEN_OUT.openFlags) & OPEN_FLAG.passthrough) !== 0;
        if (passed) {
          const number = body.readInt32LE(OPEN_OUT.backingId);
          if (known.cached > 0) throw new Error('passed through beside the page cache');
          if (known.passed > 0 && known.backing !== number) throw new Error('passed through to two files');
          if (!backings.has(number)) throw new Error('passed through to nothing');
          known.passed += 1;
          known.backing = number;
          seen.passed += 1;
        } else {
          if (known.passed > 0) throw new Error('through the page cache beside what is passed through');
          known.cached += 1;
          seen.cached += 1;
        }
        open.push({ node, handle: body.readBigUInt64LE(OPEN_OUT.handle), passed });
      });
    },
    read() {
      const one = open[random(open.length)];
      if (!one || one.passed) return;
      const known = nodes.get(one.node)!;
      const { size } = files[known.index]!;
      const offset = random(size + 100);
      const count = 1 + random(5000);
      known.busy += 1;
      ask(OP.read, one.node, numbersBody(one.handle, BigInt(offset), BigInt(count), 0n, 0n), (body, errno) => {
        known.busy -= 1;
        if (errno !== 0) return;
        const length = Math.max(0, Math.min(count, size - offset));
        if (!body.equals(patternBytes(known.index, offset, length))) throw new Error('wrong bytes');
        seen.data += 1;
      });
    },
    release() {
      if (open.length === 0) return;
      const [one] = open.splice(random(open.length), 1);
      const known = nodes.get(one!.node)!;
      if (one!.passed) known.passed -= 1;
      else known.cached -= 1;
      known.busy += 1;
      ask(OP.release, one!.node, numbersBody(one!.handle, 0n, 0n), () => {
        known.busy -= 1;
      });
    },
    forget() {
      const [node, known] = pick();
      if (node === undefined || !known || known.busy + known.cached + known.passed > 0) return;
      nodes.delete(node);
      deliver(message({ opcode: OP.forget, nodeid: node, unique: 0n, body: numbersBody(known.lookups) }));
    },
    interrupt() {
      const keys = [...inFlight.keys()];
      const key = keys[random(keys.length)];
      if (key !== undefined) deliver(message({ opcode: OP.interrupt, unique: key | 1n, body: numbersBody(key) }));
    },
  };

  /** Gives a request up that is not answered yet: the answer will be refused. */
  function withdraw(): void {
    const waiting = [...inFlight].filter(([, one]) => one.bytes.readUInt32LE(4) !== OP.release);
    const [key, one] = waiting[random(waiting.length)] ?? [];
    if (key === undefined || !one) return;
    inFlight.delete(key);
    one.done(Buffer.alloc(0), EINTR);
  }

  function pick(): [bigint | undefined, KernelNode | undefined] {
    const known = [...nodes.keys()];
    const node = known[random(known.length)];
    return [node, node === undefined ? undefined : nodes.get(node)];
  }

  return {
    files,
    acts: { ...acts, withdraw },
    take,
    seen,
    inFlight,
    nodes,
    open,
    backings,
    passThrough: {
      open(_path: string) {
        if (random(4) === 0) return undefined;
        backing += 1;
        backings.add(backing);
        return backing;
      },
      close(number: number) {
        if (!backings.delete(number)) throw new Error('closed what was not open');
      },
    },
    connect(to: (bytes: Buffer) => void) {
      deliver = to;
    },
    /** Sends again what was not answered, in any order, marked as such. */
    resend() {
      const all = [...inFlight.values()].sort(() => random(3) - 1);
      for (const one of all) {
        one.unique |= UNIQUE_RESENT;
        one.bytes.writeBigUInt64LE(one.unique, 8);
        deliver(one.bytes);
      }
    },
  };
}

describe(`the ring under a kernel that does anything (seed ${seed})`, () => {
  it('answers each request once, with right bytes, by the rules of passing through, over takeovers; and keeps nothing', async () => {
    const random = randomNumbers(seed);
    const kernel = createKernel(random);
    const memory = anonymousFile('model');
    const waitMemory = anonymousFile('model-waits');
    const alive = new Set<RingFile>();
    let calm = false;
    let doubled = 0;
    let carried = 0;

    const fileOf = (id: string): RingFile => {
      const index = kernel.files.findIndex((file) => file.id === id);
      const file: RingFile = {
        size: kernel.files[index]!.size,
        async read(offset, length) {
          if (!calm) await sleep(random(4));
          if (!calm && random(10) === 0) throw new Error('away');
          return patternBytes(index, offset, length);
        },
        whole: () => (random(2) === 0 ? '/whole' : undefined),
        close() {
          if (!alive.delete(file)) doubled += 1;
        },
      };
      alive.add(file);
      return file;
    };
    const bring = async (id: string): Promise<'ready' | 'absent' | RingFile> => {
      if (!calm) await sleep(random(4));
      if (!calm && random(8) === 0) throw new Error('away');
      return !calm && random(6) === 0 ? 'absent' : fileOf(id);
    };

    function serve(standIn: boolean): { readonly ring: Ring; readonly tree: TreeState } {
      const tree = createTreeState();
      let current = true;
      const options = {
        resolve: standIn ? () => new Promise<never>(() => {}) : bring,
        reopen: async (id: string) => {
          const result = await bring(id);
          return typeof result === 'string' ? undefined : result;
        },
        deadline: 12,
        linger: 3,
        interruption: () => (['busy', 'dying', 'asked'] as const)[random(3)]!,
      };
      const parts = { table: openNodeTable(memory), maxRead: 2 ** 20, passThrough: kernel.passThrough };
      const waits = openWaitTable(waitMemory, 1, standIn ? 'keeper' : 'daemon');
      const ring = createRing(tree, options, standIn ? undefined : parts, waits);
      const atOnce = answerAtOnce(tree.buffer);
      const port = {
        send: (answer: Buffer | readonly Buffer[]) =>
          current && kernel.take(Buffer.isBuffer(answer) ? answer : Buffer.concat(answer)),
      };
      kernel.connect((bytes) => {
        const request = parseRequest(bytes)!;
        const answer = atOnce.answer(request);
        if (answer === undefined) ring.handle(request, port);
        else if (answer !== 'nothing') port.send(answer);
      });
      const { release } = ring;
      ring.release = () => {
        current = false;
        carried += ring.counters().carried;
        release();
      };
      return { ring, tree };
    }

    /** The next daemon, after a time with or without one that stood in. */
    async function takeOver(before: Ring): Promise<Ring> {
      before.release();
      if (random(2) === 0) return serveAgain();
      const { ring } = serve(true);
      kernel.resend();
      for (let steps = random(30); steps > 0; steps -= 1) act();
      await sleep(random(5));
      const settled = ring.takeSettled();
      ring.release();
      const next = serveAgain();
      const port = { send: () => true };
      const header = { unique: 0n, uid: 0, gid: 0, pid: 0 };
      for (const [nodeid, handle] of settled.released)
        next.handle({ ...header, nodeid: BigInt(nodeid), op: 'release', handle: BigInt(handle) }, port);
      const gone = settled.forgotten.map(([nodeid, lookups]) => ({ nodeid: BigInt(nodeid), lookups: BigInt(lookups) }));
      next.handle({ ...header, nodeid: 0n, op: 'forget', nodes: gone }, port);
      return next;
    }
    function serveAgain(): Ring {
      const { ring } = serve(false);
      kernel.resend();
      return ring;
    }

    const weights = Object.entries({
      lookup: 3,
      open: 6,
      read: 8,
      release: 5,
      forget: 2,
      interrupt: 2,
      withdraw: 2,
    } as const).flatMap(([name, weight]) => Array.from({ length: weight }, () => name as keyof typeof kernel.acts));
    function act(): void {
      kernel.acts[weights[random(weights.length)]!]();
    }

    let { ring } = serve(false);
    for (let step = 0; step < STEPS; step += 1) {
      act();
      if (random(12) === 0) await sleep(random(3));
      if (random(400) === 0) ring = await takeOver(ring);
      if (random(300) === 0) kernel.resend();
    }
    calm = true;
    await expect.poll(() => kernel.inFlight.size, { timeout: 10_000 }).toBe(0);
    while (kernel.open.length > 0) kernel.acts.release();
    await expect.poll(() => kernel.inFlight.size, { timeout: 10_000 }).toBe(0);
    // Nothing is open: nothing is held open, though the kernel knows the nodes.
    await expect.poll(() => ring.counters().files, { timeout: 10_000 }).toBe(0);
    expect(kernel.backings.size).toBe(0);
    while (kernel.nodes.size > 0) kernel.acts.forget();
    await expect
      .poll(() => ring.counters(), { timeout: 10_000 })
      .toMatchObject({ held: 0, watched: 0, fileNodes: 0, files: 0 });
    await expect.poll(() => alive.size, { timeout: 10_000 }).toBe(0);
    expect(doubled).toBe(0);
    expect(carried).toBeGreaterThan(0);
    for (const count of ['passed', 'cached', 'data', 'EIO', 'EINTR', 'late'] as const)
      expect(kernel.seen[count]).toBeGreaterThan(10);
    ring.release();
  });
});
