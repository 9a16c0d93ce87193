import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../system/abortable.ts';
import type { Logger } from './log.ts';

/**
 * The volumes of an earlier daemon that this one has not taken up yet. What is cached of them is read as ever; for the rest their
 * repositories are needed, which may be away for longer than a daemon should take to start.
 */
export interface Recovery extends Disposable {
  /** Everything that is to be taken up was named: until then, anything may be. */
  begun(): void;
  /** Tries until it succeeds, is given up, or the daemon ends. */
  begin(volume: PendingVolume): void;
  /** How many volumes are not taken up yet. */
  readonly pending: number;
  /** Resolves when one more of them is settled; undefined where there is none. */
  next(): Promise<void> | undefined;
}

export interface PendingVolume {
  readonly name: string;
  /** What to tell of it in the log. */
  readonly about: Readonly<Record<string, unknown>>;
  /** False: it is no more. */
  takeUp(signal: AbortSignal): Promise<boolean>;
  onTakenUp?(): void;
}

/** Between two tries, in milliseconds. */
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 30_000;

export function createRecovery(log: Logger): Recovery {
  const stopping = new AbortController();
  const { signal } = stopping;
  // Until `begun`, it is not known what there is.
  let pending = 1;
  let settled = Promise.withResolvers<void>();

  const recover = async ({ name, about, takeUp, onTakenUp }: PendingVolume) => {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      try {
        if (await takeUp(signal)) onTakenUp?.();
        return;
      } catch (error) {
        if (signal.aborted) return;
        const text = `volume ${name} is not taken up again yet: ${(error as Error).message}; what is cached of it is read, the rest waits`;
        log.error(text, { ...about, error, repeats: `recover ${name}` });
      }
      await sleep(pause, undefined, { signal, ref: false });
    }
  };

  const settle = () => {
    pending -= 1;
    settled.resolve();
    settled = Promise.withResolvers();
  };

  return {
    begun: settle,
    begin(volume) {
      pending += 1;
      recover(volume)
        .catch((error) => {
          if (!signal.aborted) throw error;
        })
        .finally(settle);
    },
    get pending() {
      return pending;
    },
    next: () => (pending > 0 ? settled.promise : undefined),
    [Symbol.dispose]: () => stopping.abort(new Error('the daemon ends')),
  };
}

/**
 * A ring's resolver that does not say that nobody has an object while a volume that may have it is not taken up: such an open waits,
 * as it would for the object.
 */
export function afterRecovery<Outcome>(
  recovery: Pick<Recovery, 'next'>,
  resolve: (id: string, signal: AbortSignal) => Promise<Outcome | 'absent'>,
): (id: string, signal: AbortSignal) => Promise<Outcome | 'absent'> {
  return async (id, signal) => {
    for (;;) {
      const next = recovery.next();
      const outcome = await resolve(id, signal);
      if (outcome !== 'absent' || next === undefined) return outcome;
      await abortable(next, signal);
    }
  };
}
