import { UnavailableError } from '../../dataset/errors.ts';
import type { RingFile } from './ring-file.ts';

/** How a wait ended: with what was waited for, by its failure, or by the deadline. */
export type Outcome<T> = T | 'failed' | 'expired';

export interface WaitsOptions<T> {
  readonly resolve: (id: string, signal: AbortSignal) => Promise<T>;
  /** How long one waits for this id at most, all in all, in ms: for what a failure says. */
  readonly deadlineOf: (id: string) => number;
  /** Told of every failure, once for all who waited, and of every wait that ended by the deadline. */
  readonly onFailure?: ((id: string, error: unknown) => void) | undefined;
  /** Gets what came when all who waited for it had left. */
  readonly unwanted: (result: T) => void;
}

interface Flight<T> {
  readonly controller: AbortController;
  readonly waiters: Set<Waiter<T>>;
}

interface Waiter<T> {
  readonly end: (outcome: Outcome<T>) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * Waits for what ids stand for. All who wait for one id share one call of `resolve`; its signal is aborted when the last of them has
 * left. A call that goes on regardless is forgotten: who comes later starts another.
 */
export function createWaits<T extends string | RingFile | undefined>(options: WaitsOptions<T>) {
  const flights = new Map<string, Flight<T>>();
  let resolving = 0;
  let started = 0;

  function start(id: string): Flight<T> {
    const flight: Flight<T> = { controller: new AbortController(), waiters: new Set() };
    flights.set(id, flight);
    resolving += 1;
    started += 1;
    void run(id, flight);
    return flight;
  }

  async function run(id: string, flight: Flight<T>): Promise<void> {
    let outcome: Outcome<T>;
    try {
      outcome = await options.resolve(id, flight.controller.signal);
      if (flight.waiters.size === 0) options.unwanted(outcome);
    } catch (error) {
      outcome = 'failed';
      if (!flight.controller.signal.aborted) options.onFailure?.(id, error);
    }
    resolving -= 1;
    if (flights.get(id) === flight) flights.delete(id);
    for (const waiter of flight.waiters) {
      clearTimeout(waiter.timer);
      waiter.end(outcome);
    }
    flight.waiters.clear();
  }

  function leave(id: string, flight: Flight<T>, waiter: Waiter<T>): boolean {
    if (!flight.waiters.delete(waiter)) return false;
    clearTimeout(waiter.timer);
    if (flight.waiters.size === 0) {
      if (flights.get(id) === flight) flights.delete(id);
      flight.controller.abort();
    }
    return true;
  }

  return {
    /** Calls `end` once, later, within `left` ms. The function that it gives back leaves before that, and then `end` is not called. */
    wait(id: string, left: number, end: (outcome: Outcome<T>) => void): () => void {
      const flight = flights.get(id) ?? start(id);
      const waiter: Waiter<T> = {
        end,
        timer: setTimeout(() => {
          if (!leave(id, flight, waiter)) return;
          options.onFailure?.(id, expiredError(id, options.deadlineOf(id)));
          end('expired');
        }, left),
      };
      flight.waiters.add(waiter);
      return () => {
        leave(id, flight, waiter);
      };
    },
    counters: () => ({ resolving, started, ids: flights.size }),
  };
}

/** What ended by the deadline, in milliseconds. */
export function expiredError(id: string, deadline: number): UnavailableError {
  return new UnavailableError(`object ${id} did not come within ${deadline / 1000} s`, { facts: { object: id } });
}
