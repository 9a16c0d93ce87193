import { constants } from 'node:os';
import { errorReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import { createDeadlines, type DeadlineCounters } from './ring-deadlines.ts';
import type { Reopen, Resolve } from './ring-file.ts';
import { createFiles, type FileCounters, type FileNodes, type PassThrough, type SharedBlocks } from './ring-files.ts';
import { createHolds } from './ring-holds.ts';
import { isFileNode, type NodeTable } from './ring-nodes.ts';
import { type Interruption, interruptionOf } from './ring-signals.ts';
import { createStandIn, type Settled } from './ring-stand-in.ts';
import { hexOf, isObjectName, NODE, type TreeState } from './ring-tree.ts';
import type { WaitTable } from './ring-wait-table.ts';
import { createWaits, type Outcome } from './ring-waits.ts';
import type { AnswerPort } from './session.ts';

const { EAGAIN, EINTR, EIO, ENOENT } = constants.errno;

/** How long after an interrupted wait the same thread's lookup in `fault` is still part of the same open, in ms. */
const SAME_OPEN = 1000;
/** How long until an interrupt is to come again whose request is not here, in ms. */
const INTERRUPT_AGAIN = 10;

export interface RingOptions {
  /** Brings the object into the cache, or gives a file to read it from. */
  readonly resolve: Resolve;
  /** Gives the file of an id again that the ring gave out before. Without it, `resolve` is asked, and must give a file. */
  readonly reopen?: Reopen;
  /** After this many ms an open or a read that still waits ends with EIO. */
  readonly deadline: number;
  /** The same for one id, where some have their own. While no daemon serves the ring, `deadline` holds for all. */
  readonly deadlineOf?: (id: string) => number;
  /** How long a file of the ring's own that is not open is kept for the next open, in ms. */
  readonly linger?: number;
  readonly onFailure?: (id: string, error: unknown) => void;
  /** Why a thread was interrupted; the default asks /proc. */
  readonly interruption?: (thread: number) => Interruption;
  /** CLOCK_MONOTONIC in ms; the default asks for it. */
  readonly now?: () => number;
}

/** What the ring's file nodes need of the connection. */
export interface RingParts {
  readonly table: NodeTable;
  readonly maxRead: number;
  readonly passThrough?: PassThrough | undefined;
  readonly blocks?: SharedBlocks | undefined;
}

export interface RingCounters extends FileCounters, DeadlineCounters {
  /**
   * Lookups of objects that came, and how they ended. `streamed`: with a file of the ring's own; `known`: with one that the kernel had
   * already; `withdrawn`: the kernel had given up when the answer came.
   */
  readonly rings: number;
  readonly ready: number;
  readonly absent: number;
  readonly streamed: number;
  readonly known: number;
  readonly failed: number;
  readonly expired: number;
  readonly interrupted: number;
  readonly withdrawn: number;
  /** Lookups in `fault`. */
  readonly faults: number;
  /** Now: requests that wait, interrupted ones among them that are looked at again, calls of `resolve` that run. */
  readonly held: number;
  readonly watched: number;
  readonly resolving: number;
  /** Calls of `resolve` so far. */
  readonly resolves: number;
  /** Directories of `wait` that the kernel knows now. */
  readonly nodes: number;
  /** READs that the reading threads answered from blocks that were there, and their bytes. */
  readonly blockReads: number;
  readonly blockBytes: number;
}

export interface Ring {
  /** Handles what the ring's tree does not answer at once: lookups of objects, file nodes, lookups in `fault`, interrupts. */
  handle(request: FuseRequest, port: AnswerPort): void;
  counters(): RingCounters;
  /** Ends opens of threads that were killed while another served beside us. */
  endDying(): void;
  /** Of a ring that stands in: what it answered for the daemon since the last time. */
  takeSettled(): Settled;
  /** Lets go of all that wait, unanswered: whoever takes the connection over is sent them again. */
  release(): void;
}

/**
 * The ring's waiting: a lookup of `wait/<2 hex>/<id>` is held until `resolve` has brought the object to where overlayfs looks next, and
 * then denied, or answered with a file of the ring's own; `fault/` fails every lookup with EIO, so that an open of what could not be
 * brought does not end in "no such file". Without `parts`, it stands in for a daemon: nothing is given out, all wait. With a table of
 * waits, what waited elsewhere before gets what is left of its deadline.
 */
export function createRing(tree: TreeState, options: RingOptions, parts?: RingParts, table?: WaitTable): Ring {
  const { deadline, deadlineOf = () => deadline, now } = options;
  const deadlines = createDeadlines({ deadline, table, serving: parts !== undefined, ...(now && { now }) });
  const holds = createHolds(options.interruption ?? interruptionOf, deadlines);
  const waits = createWaits({
    ...options,
    deadlineOf,
    unwanted: (result) => typeof result === 'object' && result.close(),
  });
  const interrupted = new Map<string, number>();
  const counters = {
    rings: 0,
    ready: 0,
    absent: 0,
    streamed: 0,
    known: 0,
    failed: 0,
    expired: 0,
    interrupted: 0,
    withdrawn: 0,
    faults: 0,
  };
  const standIn = createStandIn({ holds });
  const files: FileNodes = parts
    ? createFiles({
        ...parts,
        holds,
        deadlineOf,
        linger: options.linger,
        reopen: reopenOf(options),
        onFailure: options.onFailure,
      })
    : standIn;

  function ring(request: FuseRequest, id: string, hex: string, port: AnswerPort): void {
    const { nodeid, pid } = request;
    const added = holds.add(
      request,
      port,
      (key, left) => waits.wait(id, left, (outcome) => end(key, nodeid, id, outcome)),
      () => {
        counters.interrupted += 1;
        interrupted.set(openOf(pid, hex), Date.now());
        // After the answer: the next caller may enter only then.
        queueMicrotask(() => tree.leave(nodeid));
      },
      deadlineOf(id),
    );
    if (added) counters.rings += 1;
  }

  function end(key: bigint, nodeid: bigint, id: string, outcome: Outcome<Awaited<ReturnType<Resolve>>>): void {
    const given = typeof outcome === 'object' ? files.give(id, outcome) : undefined;
    const how = typeof outcome === 'string' ? outcome : given ? 'streamed' : 'failed';
    const errno = how === 'ready' || how === 'absent' ? ENOENT : EIO;
    const sent = holds.answer(key, (unique) => given?.answer(unique) ?? errorReply(unique, errno));
    if (sent !== 'taken') given?.late();
    if (sent === 'gone') return;
    counters[how] += 1;
    if (sent === 'late') counters.withdrawn += 1;
    tree.leave(nodeid);
  }

  /** A thread is in one open at a time. Of a thread without a number, we know only which directory it looked in. */
  function openOf(thread: number, hex: string): string {
    return thread > 0 ? String(thread) : `in ${hex}`;
  }

  // overlayfs goes on to the next layers after any error, so it is `fault` that says how the open ends.
  function fault({ unique, pid }: FuseRequest, hex: string, port: AnswerPort): void {
    counters.faults += 1;
    const oldest = Date.now() - SAME_OPEN;
    const at = interrupted.get(openOf(pid, hex));
    interrupted.delete(openOf(pid, hex));
    for (const [key, time] of interrupted) {
      if (time >= oldest) break;
      interrupted.delete(key);
    }
    port.send(errorReply(unique, at !== undefined && at >= oldest ? EINTR : EIO));
  }

  return {
    handle(request, port) {
      if (request.op === 'lookup') {
        const hex = hexOf(request.nodeid);
        if (request.nodeid === NODE.fault) fault(request, request.name, port);
        else if (hex === undefined || !isObjectName(request.name, hex)) port.send(errorReply(request.unique, ENOENT));
        else if (files.known(request.name, request, port)) {
          counters.known += 1;
          tree.leave(request.nodeid);
        } else ring(request, request.name, hex, port);
      } else if (request.op === 'interrupt') {
        // What is not held was answered, or another reader has it and is about to hand it over: asks the kernel to interrupt
        // again, which it does as long as that one waits.
        if (!holds.interrupt(request.target))
          setTimeout(() => port.send(errorReply(request.unique, EAGAIN)), INTERRUPT_AGAIN).unref();
      } else if (request.op === 'forget' || isFileNode(request.nodeid)) files.handle(request, port);
    },
    counters() {
      const { resolving, started } = waits.counters();
      const { reads: blockReads, bytes: blockBytes } = tree.blockReads();
      const now = { resolving, resolves: started, nodes: tree.known(), blockReads, blockBytes };
      return { ...counters, ...files.counters(), ...holds.counters(), ...deadlines.counters(), ...now };
    },
    endDying: holds.endDying,
    takeSettled: () => standIn.takeSettled(),
    release() {
      holds.release();
      files.release();
    },
  };
}

function reopenOf({ reopen, resolve }: RingOptions): Reopen {
  return (
    reopen ??
    (async (id, signal) => {
      const result = await resolve(id, signal);
      return typeof result === 'object' ? result : undefined;
    })
  );
}
