import { abortable } from '../../system/abortable.ts';

/** Lets so many in at a time; so many more wait, first come, first served. */
export interface Gate {
  /** Undefined where too many wait already. What it gives is given back by disposing of it. */
  enter(signal: AbortSignal): Promise<Disposable | undefined>;
  readonly inside: number;
  readonly waiting: number;
}

export function createGate(most: number, mostWaiting: number): Gate {
  const waiting: (() => void)[] = [];
  let inside = 0;
  const leave = () => {
    const next = waiting.shift();
    if (next === undefined) inside -= 1;
    else next();
  };
  const place = (): Disposable => {
    let held = true;
    return {
      [Symbol.dispose]() {
        if (held) leave();
        held = false;
      },
    };
  };
  return {
    async enter(signal) {
      signal.throwIfAborted();
      if (inside < most) {
        inside += 1;
        return place();
      }
      if (waiting.length >= mostWaiting) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.push(resolve);
      try {
        await abortable(promise, signal);
      } catch (error) {
        const at = waiting.indexOf(resolve);
        if (at >= 0) waiting.splice(at, 1);
        else leave();
        throw error;
      }
      return place();
    },
    get inside() {
      return inside;
    },
    get waiting() {
      return waiting.length;
    },
  };
}
