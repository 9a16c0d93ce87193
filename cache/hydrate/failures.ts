import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, InvalidError, LarderError, NotFoundError, UnavailableError } from '../../dataset/errors.ts';

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 5_000;

/** Pauses between tries, in milliseconds: each twice the one before, up to a few seconds. */
export function* pauses(): Generator<number, never> {
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) yield pause;
}

/** A mistake in the program, which no second try mends: neither an error of ours nor of the system. */
export function isMistake(error: unknown): boolean {
  return !(error instanceof LarderError) && (error as NodeJS.ErrnoException).code === undefined;
}

/** What is said of an object when all tries are used up. */
export function lastError(id: Digest, error: unknown, patience: number): Error {
  const reason = error instanceof Error ? error.message : String(error);
  if (error instanceof NotFoundError) {
    return new CorruptError(`object ${id} cannot be had, its pack is gone: ${reason}; run 'larder verify'`, {
      cause: error,
      facts: { ...error.facts, object: id },
    });
  }
  return new UnavailableError(`object ${id} could not be had within ${patience / 1000} s: ${reason}`, {
    cause: error,
    facts: { ...(error instanceof LarderError ? error.facts : {}), object: id },
  });
}

/** Tries again, until `patience` milliseconds are over, what may succeed later. */
export async function retrying<T>(act: () => Promise<T>, patience: number, signal: AbortSignal): Promise<T> {
  const end = performance.now() + patience;
  for (const pause of pauses()) {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      if (error instanceof CorruptError || error instanceof InvalidError || performance.now() + pause > end)
        throw error;
    }
    await sleep(pause, undefined, { signal });
  }
  throw new Error('pauses never end');
}
