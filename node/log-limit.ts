/** Lets one of a kind through in each interval. */
export interface Limiter {
  /**
   * Calls `say` now, with 0, where none of the kind was told for an interval. Otherwise it is left out; when the interval is over, the
   * latest that was left out is told, with the number of the others.
   */
  tell(kind: string, say: (leftOut: number) => void): void;
  /** Tells at once what is left out until now. */
  end(): void;
}

interface Kind {
  leftOut: number;
  latest: ((leftOut: number) => void) | undefined;
  readonly timer: NodeJS.Timeout;
}

/** In milliseconds. */
const INTERVAL = 60_000;
/** Of kinds at a time; what is more is one kind. */
const MOST = 1000;

export function createLimiter({ interval = INTERVAL }: { readonly interval?: number } = {}): Limiter {
  const kinds = new Map<string, Kind>();

  const begin = (kind: string) => {
    const timer = setTimeout(() => over(kind), interval);
    timer.unref();
    kinds.set(kind, { leftOut: 0, latest: undefined, timer });
  };
  const over = (kind: string) => {
    const state = kinds.get(kind)!;
    kinds.delete(kind);
    if (state.latest === undefined) return;
    begin(kind);
    state.latest(state.leftOut - 1);
  };

  return {
    tell(name, say) {
      const kind = kinds.has(name) || kinds.size < MOST ? name : 'other';
      const state = kinds.get(kind);
      if (state === undefined) {
        begin(kind);
        say(0);
        return;
      }
      state.leftOut += 1;
      state.latest = say;
    },
    end() {
      for (const { timer, latest, leftOut } of kinds.values()) {
        clearTimeout(timer);
        latest?.(leftOut - 1);
      }
      kinds.clear();
    },
  };
}
