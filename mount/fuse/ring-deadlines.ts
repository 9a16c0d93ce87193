import { UNIQUE_RESENT } from './protocol.ts';
import type { WaitRecord, WaitTable } from './ring-wait-table.ts';

/** How long requests may wait, whoever serves them by then. */
export interface Deadlines {
  /**
   * A request begins to wait, here: for how many ms at most, 0 where its time is over.
   * @param within its own deadline, where that is another than most have
   */
  begin(unique: bigint, within?: number): number;
  /** It does so no longer. `answered`: the kernel took the answer; otherwise it may yet be sent again. */
  end(key: bigint, answered: boolean): void;
  counters(): DeadlineCounters;
}

export interface DeadlineCounters {
  /** Requests that another had let wait before, and got what was left; of them, those that got a last chance. */
  readonly carried: number;
  readonly lastChances: number;
  /** Requests whose beginning could not be written down for who comes next. */
  readonly unwritten: number;
}

export interface DeadlinesOptions {
  /** In ms, where a request has none of its own. */
  readonly deadline: number;
  /** Without it, all that comes has just begun to wait. */
  readonly table?: WaitTable | undefined;
  /** Whether what waits here may come: then a request of which little is left gets a last chance, once. */
  readonly serving: boolean;
  /** CLOCK_MONOTONIC in ms, which is the same for all processes; the default asks for it. */
  readonly now?: () => number;
}

/**
 * What a daemon that has just come up gives a request of which less is left, in ms: long enough to open the repository and to bring an
 * object from a bucket that answers, or the reader would pay for the daemon's absence. No more than a quarter of the deadline, so that a
 * short one stays short.
 */
const LAST_CHANCE = 2000;
/** How often to look for records that can go, while there is no room, in ms. */
const SWEEP_AGAIN = 1000;

export function lastChance(deadline: number): number {
  return Math.min(LAST_CHANCE, deadline / 4);
}

export const monotonic = () => Number(process.hrtime.bigint()) / 1e6;

export function createDeadlines({ deadline, table, serving, now = monotonic }: DeadlinesOptions): Deadlines {
  const waiting = new Set<bigint>();
  const counters = { carried: 0, lastChances: 0, unwritten: 0 };
  let longest = deadline;
  let swept = Number.NEGATIVE_INFINITY;

  const endOf = (record: WaitRecord, within: number) =>
    record.chance > 0 ? record.chance + lastChance(within) : record.start + within;
  // Somebody else may hold a request a little longer; one deadline more is enough for anyone.
  const isOver = (record: WaitRecord) => !waiting.has(record.key) && endOf(record, longest) + longest < now();

  function known(unique: bigint): WaitRecord | undefined {
    if (!table || (unique & UNIQUE_RESENT) === 0n) return undefined;
    const key = unique & ~UNIQUE_RESENT;
    let record = table.find(key);
    if (!record) {
      table.refresh();
      record = table.find(key);
    }
    // What is to come has not begun.
    return record && Math.max(record.start, record.chance) <= now() ? record : undefined;
  }

  function save(record: WaitRecord): boolean {
    if (!table) return true;
    if (table.save(record)) return true;
    const time = now();
    if (time < swept + SWEEP_AGAIN) return false;
    swept = time;
    table.sweep(isOver);
    return table.save(record);
  }

  return {
    begin(unique, within = deadline) {
      longest = Math.max(longest, within);
      const chance = lastChance(within);
      const key = unique & ~UNIQUE_RESENT;
      waiting.add(key);
      const record = known(unique);
      if (!record) {
        if (!save({ key, start: now(), chance: 0 })) counters.unwritten += 1;
        return within;
      }
      counters.carried += 1;
      const left = Math.max(0, endOf(record, within) - now());
      if (!serving || record.chance > 0 || left >= chance) return left;
      // What is not written down could be had again.
      if (!save({ ...record, chance: now() })) return left;
      counters.lastChances += 1;
      return chance;
    },
    end(key, answered) {
      waiting.delete(key);
      if (answered) table?.remove(key);
    },
    counters: () => ({ ...counters }),
  };
}
