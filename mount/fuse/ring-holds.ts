import { constants } from 'node:os';
import { UNIQUE_RESENT } from './protocol.ts';
import { errorReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import type { Deadlines } from './ring-deadlines.ts';
import type { Interruption } from './ring-signals.ts';
import type { AnswerPort } from './session.ts';

/** How often a thread is looked at again that was interrupted and does not seem to want to end, in ms. */
const RECHECK = 25;

interface Held {
  /** As the kernel numbers it now: it changes when the request is sent again. */
  unique: bigint;
  readonly request: FuseRequest;
  readonly port: AnswerPort;
  readonly leave: () => void;
  readonly interrupted: () => void;
}

export interface Holds {
  /**
   * Holds a request until `answer`. `begin` starts what will bring the answer within `left` ms, and gives what calls that off;
   * `interrupted` is called before a request is answered EINTR because its thread is to end. False where it is held already, and was
   * only sent again. `within`: its own deadline in ms, where it has one.
   */
  add(
    request: FuseRequest,
    port: AnswerPort,
    begin: (key: bigint, left: number) => () => void,
    interrupted: () => void,
    within?: number,
  ): boolean;
  /** Answers one that is held. `gone`: it is no longer held; `late`: the kernel had given it up. */
  answer(key: bigint, make: (unique: bigint) => Buffer | readonly Buffer[]): 'taken' | 'late' | 'gone';
  /** The kernel says that the thread of a request has a signal. False where that one is not held. */
  interrupt(target: bigint): boolean;
  /**
   * Ends the waits of threads that were killed: while another served beside us, it may have been told of that, and not we. Lookups alone,
   * for what is read ahead outlives who asked for it.
   */
  endDying(): void;
  counters(): { readonly held: number; readonly watched: number };
  /** Lets go of all, unanswered. */
  release(): void;
}

/** Requests that wait: each is answered once, under the number that it has by then, and ends early where its thread is to end. */
export function createHolds(interruption: (thread: number) => Interruption, deadlines: Deadlines): Holds {
  const held = new Map<bigint, Held>();
  const watched = new Set<bigint>();
  let recheck: NodeJS.Timeout | undefined;

  /** Ends the wait, if the thread has a reason to end. */
  function endIfDue(key: bigint): boolean {
    const one = held.get(key);
    if (!one || interruption(one.request.pid) === 'busy') return false;
    end(key, one);
    return true;
  }

  function end(key: bigint, one: Held): void {
    one.leave();
    one.interrupted();
    answer(key, (unique) => errorReply(unique, constants.errno.EINTR));
  }

  // The kernel interrupts a request once. If that was for a signal that is no reason to end, we have to see for ourselves when
  // the thread is killed after all.
  function watch(): void {
    if (watched.size === 0 || recheck) return;
    const look = () => {
      recheck = undefined;
      for (const key of watched) if (!held.has(key) || endIfDue(key)) watched.delete(key);
      watch();
    };
    recheck = setTimeout(look, Math.max(RECHECK, watched.size / 2));
  }

  function answer(key: bigint, make: (unique: bigint) => Buffer | readonly Buffer[]): 'taken' | 'late' | 'gone' {
    const one = held.get(key);
    if (!one) return 'gone';
    held.delete(key);
    watched.delete(key);
    const taken = one.port.send(make(one.unique));
    deadlines.end(key, taken);
    return taken ? 'taken' : 'late';
  }

  return {
    answer,
    add(request, port, begin, interrupted, within) {
      const key = request.unique & ~UNIQUE_RESENT;
      const before = held.get(key);
      if (before) {
        before.unique = request.unique;
        return false;
      }
      const leave = begin(key, deadlines.begin(request.unique, within));
      held.set(key, { unique: request.unique, request, port, leave, interrupted });
      return true;
    },
    interrupt(target) {
      const key = target & ~UNIQUE_RESENT;
      if (!held.has(key)) return false;
      if (!endIfDue(key)) {
        watched.add(key);
        watch();
      }
      return true;
    },
    endDying() {
      for (const [key, one] of held)
        if (one.request.op === 'lookup' && interruption(one.request.pid) === 'dying') end(key, one);
    },
    counters: () => ({ held: held.size, watched: watched.size }),
    release() {
      clearTimeout(recheck);
      for (const one of held.values()) one.leave();
      held.clear();
      watched.clear();
    },
  };
}
