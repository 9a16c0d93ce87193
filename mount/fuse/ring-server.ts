import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { UnavailableError } from '../../dataset/errors.ts';
import { anonymousFile, UMOUNT, umount } from '../../system/calls.ts';
import { connectionNumber, mountFuse, setReadAhead } from './device.ts';
import { type Negotiated, negotiate, WANTED } from './negotiate.ts';
import { createPassThrough } from './pass-through.ts';
import { FEATURE } from './protocol.ts';
import { errorReply, initReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import { createRing, type Ring, type RingCounters, type RingOptions } from './ring.ts';
import { shareBlocks } from './ring-blocks.ts';
import { openNodeTable } from './ring-nodes.ts';
import type { Settled } from './ring-stand-in.ts';
import { createTreeState } from './ring-tree.ts';
import { openWaitTable } from './ring-wait-table.ts';
import { type FuseSession, type SessionEnd, startSession } from './session.ts';

export interface RingServerOptions extends RingOptions {
  /** Features to ask the kernel for, instead of all that are useful: what an older kernel lacks can be left out. */
  readonly features?: bigint;
  /**
   * Whether opens of large files that are whole may be passed through to them (the default, where the kernel can). A file system on the
   * ring then counts as stacked twice: no other overlay can be mounted on top of it.
   */
  readonly passthrough?: boolean;
  /** How many threads read the kernel's requests. */
  readonly threads?: number;
  /** Told of what goes on without something that was expected, once each. */
  readonly onNotice?: (notice: string) => void;
}

/** A ring that is being served by this process. */
export interface RingServer {
  /** /dev/fuse. Belongs to the caller, who closes it after `release`. */
  readonly fd: number;
  readonly settled: Negotiated;
  /** What the keeper is to copy for who comes next; nothing of one that stands in. */
  readonly memory: RingMemory;
  counters(): RingCounters & FuseSession['counters'];
  /** Why the reading ended: `unmounted`, `aborted`, or `stopped` by `release`. */
  readonly ended: Promise<SessionEnd>;
  /** Stops serving. What waits stays unanswered, for whoever takes the descriptor over; closing its last copy ends it with an error. */
  release(): Promise<void>;
  /** Has everything sent again that somebody read and did not answer; opens of threads that were killed meanwhile end. */
  resend(): void;
  /** Of one that stands in: what it answered for the daemon since the last time. */
  takeSettled(): Settled;
  /** What another that stood in has answered for us. */
  settle(done: Settled): void;
}

/** Descriptors of memory in which a daemon of the ring leaves to the next what that must know. */
export interface RingMemory {
  /** Its file nodes: openNodeTable. */
  readonly table?: number | undefined;
  /** Since when requests wait: openWaitTable. */
  readonly waits?: number | undefined;
}

/** What the memory is called in /proc. */
const TABLE_NAME = 'larder-ring-nodes';
const WAITS_NAME = 'larder-ring-waits';
/** How far the kernel reads ahead, in bytes: some READs of the longest kind. */
const READ_AHEAD = 4 * 2 ** 20;

/**
 * Mounts a ring at `target`, an empty directory, and serves it. This process may touch the ring's directories as it likes, for a
 * thread of its own answers for them. What it must not do with a synchronous call is to open a file of an overlay on it that is not
 * cached: it would wait for itself.
 */
export async function mountRing(target: string, options: RingServerOptions): Promise<RingServer> {
  const fd = mountFuse(target);
  try {
    const number = connectionNumber(target);
    const server = await serve(fd, undefined, options, ownMemory({}), number ?? 0);
    const notice = number === undefined ? undefined : setReadAhead(number, READ_AHEAD);
    if (notice !== undefined) options.onNotice?.(notice);
    return server;
  } catch (error) {
    umount(target, UMOUNT.detach);
    closeSync(fd);
    throw error;
  }
}

/**
 * Goes on serving a ring whose daemon is gone: `fd` is a copy of its descriptor, `settled` what it had agreed on, `connection` the
 * kernel's number of it, and `memory` copies of its `memory`, which are ours from now on. What waited at that time is sent again and
 * served.
 */
export async function joinRing(
  fd: number,
  settled: Negotiated,
  connection: number,
  options: RingServerOptions,
  memory: RingMemory,
): Promise<RingServer> {
  refuseWithoutResend(settled);
  return await serve(fd, settled, options, ownMemory(memory), connection);
}

/**
 * Stands in where no daemon serves: all that comes waits, may be interrupted, and ends at the deadline with EIO. `waits` stays the
 * caller's.
 */
export async function standInForRing(
  fd: number,
  settled: Negotiated,
  connection: number,
  deadline: number,
  waits: number | undefined,
): Promise<RingServer> {
  refuseWithoutResend(settled);
  const resolve = (_id: string, signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  return await serve(fd, settled, { resolve, deadline }, { waits }, connection);
}

/** What there is, and what a first daemon begins with. */
function ownMemory({ table, waits }: RingMemory): Required<RingMemory> {
  return { table: table ?? anonymousFile(TABLE_NAME), waits: waits ?? anonymousFile(WAITS_NAME) };
}

function refuseWithoutResend(settled: Negotiated): void {
  if (!settled.resend)
    throw new UnavailableError(
      'the ring of an earlier daemon cannot be taken over on this kernel: Linux 6.9 is needed. Files that are cached go on to be read; mount anew for the others',
    );
}

async function serve(
  fd: number,
  known: Negotiated | undefined,
  options: RingServerOptions,
  memory: RingMemory,
  connection: number,
): Promise<RingServer> {
  const tree = createTreeState();
  const table = memory.table === undefined ? undefined : openNodeTable(memory.table);
  const side = table ? 'daemon' : 'keeper';
  const waits = memory.waits === undefined ? undefined : openWaitTable(memory.waits, connection, side);
  const { promise: negotiated, resolve: settle, reject: refuse } = Promise.withResolvers<Negotiated>();
  let ring: Ring | undefined;

  function closeMemory(): void {
    if (!table) return;
    table.close();
    if (memory.waits !== undefined) closeSync(memory.waits);
  }

  function ringFor(settled: Negotiated) {
    const tell = options.onNotice ?? (() => {});
    return createRing(
      tree,
      options,
      table && {
        table,
        maxRead: settled.maxRead,
        blocks: shareBlocks(session),
        passThrough: settled.passthrough ? createPassThrough(fd, tell) : undefined,
      },
      waits,
    );
  }

  const handle = (request: FuseRequest, port: FuseSession) => {
    if (request.op !== 'init') return ring?.handle(request, port);
    const wanted = options.features ?? WANTED;
    const result = negotiate(request, options.passthrough === false ? wanted & ~FEATURE.passthrough : wanted);
    if ('refused' in result) {
      port.send(errorReply(request.unique, constants.errno.EPROTO));
      refuse(new UnavailableError(`${result.refused}: a newer kernel is needed`));
    } else {
      if (result.settled) ring ??= ringFor(result.settled);
      port.send(initReply(request.unique, result.answer));
      if (result.settled) settle(result.settled);
    }
  };
  const atOnce = { module: new URL('./ring-tree.ts', import.meta.url), shared: tree.buffer };
  const session = startSession({ fd, atOnce, threads: options.threads ?? 1, handle });
  if (known) {
    ring = ringFor(known);
    settle(known);
  }
  const early = session.ended.then((end) => {
    throw new UnavailableError(`the ring's FUSE connection was ${end} before it was set up`);
  });
  let settled: Negotiated;
  try {
    if (known) session.resend();
    settled = await Promise.race([negotiated, early]);
  } catch (error) {
    early.catch(() => {});
    await session.stop().catch(() => {});
    closeMemory();
    throw error;
  }
  const served = ring!;
  return {
    fd,
    settled,
    memory: table ? memory : {},
    ended: session.ended,
    counters: () => ({ ...served.counters(), ...session.counters }),
    async release() {
      await session.stop();
      served.release();
      closeMemory();
    },
    resend() {
      served.endDying();
      session.resend();
    },
    takeSettled: () => served.takeSettled(),
    settle(done) {
      const port = { send: () => true };
      const header = { unique: 0n, uid: 0, gid: 0, pid: 0 };
      for (const [nodeid, handle] of done.released)
        served.handle({ ...header, nodeid: BigInt(nodeid), op: 'release', handle: BigInt(handle) }, port);
      const nodes = done.forgotten.map(([nodeid, lookups]) => ({ nodeid: BigInt(nodeid), lookups: BigInt(lookups) }));
      served.handle({ ...header, nodeid: 0n, op: 'forget', nodes }, port);
    },
  };
}
