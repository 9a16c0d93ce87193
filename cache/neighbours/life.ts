import { NeighbourFault } from './neighbour-fault.ts';

/** How long a neighbour may take, in milliseconds in which this process could hear it. */
export interface Deadlines {
  /** Until its kernel takes a connection, when nothing comes from it: its machine or the network may be gone. */
  readonly reach: number;
  /** Without any sign of life of its own: it may hang. */
  readonly silence: number;
  /** For the next `PROGRESS_BYTES` of one object, where it lives: it may have much to do, or wait for the bucket. */
  readonly stall: number;
}

/** A neighbour that brings less than this in a deadline is as good as none. */
const PROGRESS_BYTES = 256 * 1024;

/** The time is looked at so many times in `reach`, and it is asked when so many have passed. */
const TICKS = 20;
const ASKED_AT = 5;

/**
 * Whether a neighbour that somebody waits for lives: all that comes from it tells so, and when nothing comes, it is asked. One that works
 * is waited for much longer than one that is gone, and what one request finds out holds for all.
 */
export interface Life {
  /** For one request. @param fail called when it is in vain, at most once */
  wait(fail: (fault: NeighbourFault) => void): Wait;
  /** Something came from it. */
  heard(): void;
}

/** A request of which something is waited for, until it is disposed of. */
export interface Wait extends Disposable {
  /** Whether it is waited for now: the time that the reader takes for himself does not count. */
  waiting: boolean;
  /** So many bytes came of its object. */
  brought(bytes: number): void;
}

export interface LifeOptions {
  readonly peer: string;
  readonly deadlines: Deadlines;
  /** Asks it for a sign of life, on a new connection and on one that is there; ends when there was an answer or there will be none. */
  readonly ask: (signal: AbortSignal, reached: () => void) => Promise<void>;
}

export function watchLife({ peer, deadlines: { reach, silence, stall }, ask }: LifeOptions): Life {
  interface Waiting extends Wait {
    ticks: number;
    readonly fail: (fault: NeighbourFault) => void;
  }
  const tickLength = reach / TICKS;
  const waits = new Set<Waiting>();
  let timer: NodeJS.Timeout | undefined;
  /** Ticks without a sign of life, and whether its kernel gave one meanwhile. */
  let quiet = 0;
  let reached = false;
  let asking: AbortController | undefined;

  async function askNow(): Promise<void> {
    const mine = new AbortController();
    asking = mine;
    reached = false;
    await ask(mine.signal, () => {
      if (asking === mine) reached = true;
    });
    if (asking === mine) asking = undefined;
  }

  /** Counts rounds of the event loop, not time: what came while this process stood still is heard before the next one. */
  function tick(): void {
    const active = [...waits].filter(({ waiting }) => waiting);
    quiet = active.length === 0 ? 0 : quiet + 1;
    if (quiet >= ASKED_AT && asking === undefined) void askNow();
    const passed = quiet * tickLength;
    if (passed >= silence || (passed >= reach && !reached)) {
      quiet = 0;
      asking?.abort();
      asking = undefined;
      const what = reached ? `gave no sign of life in ${silence} ms` : `cannot be reached in ${reach} ms`;
      for (const { fail } of active) fail(new NeighbourFault(`${peer} ${what}`));
      return;
    }
    for (const wait of active) {
      wait.ticks += 1;
      if (wait.ticks * tickLength >= stall)
        wait.fail(new NeighbourFault(`${peer} lives, but brought too little in ${stall} ms`));
    }
  }

  return {
    wait(fail) {
      let brought = 0;
      const wait: Waiting = {
        waiting: true,
        ticks: 0,
        fail,
        brought(bytes) {
          brought += bytes;
          if (brought < PROGRESS_BYTES) return;
          brought = 0;
          wait.ticks = 0;
        },
        [Symbol.dispose]() {
          waits.delete(wait);
          if (waits.size > 0) return;
          clearInterval(timer);
          timer = undefined;
        },
      };
      waits.add(wait);
      if (timer === undefined) {
        quiet = 0;
        timer = setInterval(tick, tickLength).unref();
      }
      return wait;
    },
    heard() {
      quiet = 0;
    },
  };
}
