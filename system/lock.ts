import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { flock } from './calls.ts';

/** A held lock. It ends with `release`, with the scope (`using`), or with the process, however that ends. */
export interface Lock extends Disposable {
  release(): void;
}

export interface LockOptions {
  /** How long to wait for whoever holds it, in milliseconds; without end if not said, 0 is not at all. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Pauses between tries, in milliseconds: they double from the first to the last. */
const FIRST_PAUSE = 1;
const LAST_PAUSE = 50;

/**
 * Locks the file at `path`, which is made if need be, against every other process and every other lock taken in this one. Its
 * folder must exist. The file may be removed while it is locked: whoever waited for it then locks its successor.
 * @returns undefined where the time ran out
 */
export async function acquireLock(
  path: string,
  mode: 'exclusive' | 'shared',
  options: LockOptions = {},
): Promise<Lock | undefined> {
  const { timeout = Number.POSITIVE_INFINITY, signal } = options;
  const deadline = performance.now() + timeout;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LAST_PAUSE)) {
    signal?.throwIfAborted();
    const lock = tryLock(path, mode);
    if (lock !== undefined) return lock;
    const left = deadline - performance.now();
    if (left <= 0) return undefined;
    await sleep(Math.min(pause * (0.5 + Math.random()), left), undefined, { signal });
  }
}

/** One try of `acquireLock`. */
export function tryLock(path: string, mode: 'exclusive' | 'shared'): Lock | undefined {
  for (;;) {
    const descriptor = openSync(path, 'a+', 0o666);
    let kept = false;
    try {
      if (!flock(descriptor, mode)) return undefined;
      // Another may have removed the file between open and flock: a lock on a file without a name guards nothing.
      if (!isStillAt(path, descriptor)) continue;
      kept = true;
      return lockOf(descriptor);
    } finally {
      if (!kept) closeSync(descriptor);
    }
  }
}

function lockOf(descriptor: number): Lock {
  let held = true;
  const release = () => {
    if (!held) return;
    held = false;
    closeSync(descriptor);
  };
  return { release, [Symbol.dispose]: release };
}

function isStillAt(path: string, descriptor: number): boolean {
  const named = statSync(path, { bigint: true, throwIfNoEntry: false });
  const opened = fstatSync(descriptor, { bigint: true });
  return named !== undefined && named.ino === opened.ino && named.dev === opened.dev;
}
