import { constants } from 'node:os';
import { UNIQUE_RESENT } from './protocol.ts';
import { errorReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import { type Interruption, interruptionOf } from './ring-signals.ts';
import { hexOf, isObjectName, NODE, type TreeState } from './ring-tree.ts';
import { createWaits, type Outcome, type Resolve } from './ring-waits.ts';

const { EINTR, EIO, ENOENT } = constants.errno;

/** How long after an interrupted wait the same thread's lookup in `fault` is still part of the same open, in ms. */
const SAME_OPEN = 1000;
/** How often a thread is looked at again that was interrupted and does not seem to want to end, in ms. */
const RECHECK = 25;

export interface RingOptions {
  /** Brings the object into the cache. `ready`: late/<2 hex>/<id> is there. `absent`: nothing that is staged has it. */
  readonly resolve: Resolve;
  /** After this many ms an open that still waits ends with EIO. */
  readonly deadline: number;
  readonly onFailure?: (id: string, error: unknown) => void;
  /** Why a thread was interrupted; the default asks /proc. */
  readonly interruption?: (thread: number) => Interruption;
}

export interface RingCounters {
  /** Lookups of objects that came, and how they ended. `withdrawn`: the kernel had given up when the answer came. */
  readonly rings: number;
  readonly ready: number;
  readonly absent: number;
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
}

/** Takes answers to the kernel; false where the request is no more. */
export interface AnswerPort {
  send(answer: Buffer): boolean;
}

export interface Ring {
  /** Handles what the ring's tree does not answer at once: lookups of objects, lookups in `fault`, interrupts. */
  handle(request: FuseRequest, port: AnswerPort): void;
  counters(): RingCounters;
  /** Lets go of all that wait, unanswered: whoever takes the connection over is sent them again. */
  release(): void;
}

interface Held {
  unique: bigint;
  readonly nodeid: bigint;
  readonly thread: number;
  readonly hex: string;
  readonly port: AnswerPort;
  readonly leave: () => void;
}

/**
 * The ring's waiting: `wait/<2 hex>/<id>` never exists, but a lookup of it is held until `resolve` has brought the object to where
 * overlayfs looks next; `fault/` fails every lookup with EIO, so that an open of what could not be brought does not end in
 * "no such file".
 */
export function createRing(tree: TreeState, options: RingOptions): Ring {
  const interruption = options.interruption ?? interruptionOf;
  const waits = createWaits(options);
  const held = new Map<bigint, Held>();
  const watched = new Set<bigint>();
  const interrupted = new Map<string, number>();
  let recheck: NodeJS.Timeout | undefined;
  const counters = { rings: 0, ready: 0, absent: 0, failed: 0, expired: 0, interrupted: 0, withdrawn: 0, faults: 0 };

  function ring({ unique, nodeid, pid }: FuseRequest, id: string, hex: string, port: AnswerPort): void {
    const key = unique & ~UNIQUE_RESENT;
    const before = held.get(key);
    if (before) {
      // Sent again while we still hold it: the answer must carry the number that it has now.
      before.unique = unique;
      return;
    }
    counters.rings += 1;
    const leave = waits.wait(id, (outcome) => end(key, outcome));
    held.set(key, { unique, nodeid, thread: pid, hex, port, leave });
  }

  function end(key: bigint, outcome: Outcome | 'interrupted'): void {
    const one = held.get(key);
    if (!one) return;
    held.delete(key);
    watched.delete(key);
    counters[outcome] += 1;
    const errno = outcome === 'ready' || outcome === 'absent' ? ENOENT : outcome === 'interrupted' ? EINTR : EIO;
    if (!one.port.send(errorReply(one.unique, errno))) counters.withdrawn += 1;
    tree.leave(one.nodeid);
  }

  /** Ends the wait, if the thread has a reason to end. */
  function interrupt(key: bigint): boolean {
    const one = held.get(key);
    if (!one || interruption(one.thread) === 'busy') return false;
    interrupted.set(openOf(one.thread, one.hex), Date.now());
    one.leave();
    end(key, 'interrupted');
    return true;
  }

  // The kernel interrupts a request once. If that was for a signal that is no reason to end, we have to see for ourselves when
  // the thread is killed after all.
  function watch(): void {
    if (watched.size === 0 || recheck) return;
    const look = () => {
      recheck = undefined;
      for (const key of watched) if (!held.has(key) || interrupt(key)) watched.delete(key);
      watch();
    };
    recheck = setTimeout(look, Math.max(RECHECK, watched.size / 2));
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
        else if (hex !== undefined && isObjectName(request.name, hex)) ring(request, request.name, hex, port);
        else port.send(errorReply(request.unique, ENOENT));
      } else if (request.op === 'interrupt') {
        const key = request.target & ~UNIQUE_RESENT;
        if (!held.has(key) || interrupt(key)) return;
        watched.add(key);
        watch();
      }
    },
    counters() {
      const { resolving, started } = waits.counters();
      const now = { held: held.size, watched: watched.size, resolving, resolves: started, nodes: tree.known() };
      return { ...counters, ...now };
    },
    release() {
      clearTimeout(recheck);
      for (const one of held.values()) one.leave();
      held.clear();
      watched.clear();
    },
  };
}
