import type { Digest } from './digest.ts';
import { InvalidError } from './errors.ts';
import type { Version } from './version.ts';

/** How much of each branch's history stays. Heads, tags and what volumes and snapshots pin stay whatever the rules say. */
export interface KeepRules {
  /** The newest so many versions. */
  readonly last?: number;
  /** The newest version of each of the last so many days that have one. */
  readonly daily?: number;
  /** The same for weeks, which begin on Mondays. */
  readonly weekly?: number;
}

export function checkRules(rules: KeepRules): void {
  for (const [name, count] of Object.entries(rules) as [string, number | undefined][])
    if (count !== undefined && (!Number.isSafeInteger(count) || count < 1))
      throw new InvalidError(`--keep-${name} needs a whole number from 1 on, not ${count}`, { facts: { rule: name } });
}

/** Decides of a branch's versions, newest first, which stay. Days and weeks are of UTC. */
export class Keeper {
  readonly #rules: KeepRules;
  #last: number;
  readonly #days = new Set<string>();
  readonly #weeks = new Set<number>();

  constructor(rules: KeepRules) {
    this.#rules = rules;
    this.#last = rules.last ?? 0;
  }

  /** Whether no older version can stay. */
  get isDone(): boolean {
    const { daily = 0, weekly = 0 } = this.#rules;
    return this.#last <= 0 && this.#days.size >= daily && this.#weeks.size >= weekly;
  }

  keeps({ time }: Pick<Version, 'time'>): boolean {
    const { daily = 0, weekly = 0 } = this.#rules;
    const isLast = this.#last > 0;
    this.#last -= 1;
    const isDaily = takes(this.#days, daily, time.slice(0, 10));
    // The first of January 1970 was a Thursday.
    const isWeekly = takes(this.#weeks, weekly, Math.floor((Date.parse(time) / 86_400_000 + 3) / 7));
    return isLast || isDaily || isWeekly;
  }
}

/** Whether `period` is a new one for which there is room. */
function takes<T>(taken: Set<T>, limit: number, period: T): boolean {
  if (taken.has(period) || taken.size >= limit) return false;
  taken.add(period);
  return true;
}

/** Those of a history that stay; for tests and small histories. */
export function keptOf(history: Iterable<Pick<Version, 'id' | 'time'>>, rules: KeepRules): Digest[] {
  const keeper = new Keeper(rules);
  return [...history].filter((version) => keeper.keeps(version)).map(({ id }) => id);
}
