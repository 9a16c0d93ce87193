import { PendingError } from './errors.ts';

/** Runs `task` unless another task with the same key is running. */
export type KeyedLock = <T>(key: string, task: () => Promise<T>) => Promise<T>;

/**
 * One task at a time for each key; a second one is refused with a PendingError, not queued. Whoever calls a volume's plugin
 * repeats calls that time out, while the first is still working: a queue would fill with calls that nobody waits for, and a
 * refusal is what the specification has for this (ABORTED: try again later). The lock is held until the task has really ended,
 * whatever became of its caller.
 */
export function createKeyedLock(): KeyedLock {
  const held = new Set<string>();
  return async (key, task) => {
    if (held.has(key))
      throw new PendingError(`another call for ${JSON.stringify(key)} is still running: try again when it has ended`);
    held.add(key);
    try {
      return await task();
    } finally {
      held.delete(key);
    }
  };
}
