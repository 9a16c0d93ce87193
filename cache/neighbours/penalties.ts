/** Who is passed over for a while: longer after each failure in a row. */
export interface Penalties {
  /** Whether to ask. After its time, one is let through to try, and the others when that one succeeded. */
  allows(who: string): boolean;
  /** @param began when it was asked, by `now`: of what was under way together, only the first failure counts */
  failed(who: string, began: number): void;
  succeeded(who: string): void;
  now(): number;
  /** Those who are passed over now. */
  readonly passedOver: readonly string[];
}

export interface PenaltyOptions {
  /** After one failure, in milliseconds; it doubles. */
  readonly first: number;
  readonly longest: number;
  readonly now?: () => number;
  /** Between 0 and 1. */
  readonly random?: () => number;
}

interface Penalty {
  counted: number;
  until: number;
  pause: number;
}

export function createPenalties(options: PenaltyOptions): Penalties {
  const { first, longest, now = () => performance.now(), random = Math.random } = options;
  const penalties = new Map<string, Penalty>();
  return {
    now,
    allows(who) {
      const penalty = penalties.get(who);
      if (penalty === undefined) return true;
      const at = now();
      if (at < penalty.until) return false;
      // Whoever tries may never say how it ended: then another tries after the same time.
      penalty.until = at + penalty.pause;
      return true;
    },
    failed(who, began) {
      const penalty = penalties.get(who);
      if (penalty !== undefined && began < penalty.counted) return;
      const at = now();
      const pause = penalty === undefined ? first : Math.min(longest, penalty.pause * 2);
      penalties.set(who, { counted: at, pause, until: at + pause * (0.75 + random() / 2) });
    },
    succeeded(who) {
      penalties.delete(who);
    },
    get passedOver() {
      const at = now();
      return [...penalties].filter(([, { until }]) => at < until).map(([who]) => who);
    },
  };
}
