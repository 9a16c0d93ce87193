import type { ByteString } from '../byte-string.ts';
import { comparePaths, isWithin } from '../path.ts';

/** A change that a tree needs to become another: something to be put, or a path that goes with all below it. */
export type Step<T> =
  | { readonly kind: 'put'; readonly value: T }
  | { readonly kind: 'delete'; readonly path: ByteString };

export interface ChangesBetweenOptions<T, B> {
  /** Whether what is at the same path stays as it is. */
  readonly isSame: (value: T, before: B) => boolean;
  /** Whether what is at a path of the base stays although `values` do not have it. */
  readonly stays?: (path: ByteString) => boolean;
}

/**
 * What makes `base` become `values`, both in path order and trees. Only the difference comes out, so that unchanged segments are not
 * touched; but both are read to their ends.
 */
export async function* changesBetween<
  T extends { readonly path: ByteString; readonly type: string },
  B extends { readonly path: ByteString; readonly type: string },
>(
  values: AsyncIterable<readonly T[]>,
  base: AsyncIterable<readonly B[]>,
  { isSame, stays }: ChangesBetweenOptions<T, B>,
): AsyncGenerator<Step<T>[]> {
  const old = new BatchCursor(base);
  await old.load();
  try {
    for await (const batch of values) {
      const steps: Step<T>[] = [];
      for (const value of batch) {
        // What the base has before this path is not among the values.
        let before = old.current;
        for (; before !== undefined && comparePaths(before.path, value.path) < 0; before = old.current)
          await drop(before.path, steps);
        if (before?.path !== value.path) {
          steps.push({ kind: 'put', value });
          continue;
        }
        if (!isSame(value, before)) steps.push({ kind: 'put', value });
        old.advance();
        if (old.needsLoad) await old.load();
        // A put of what is no directory takes what was below it along.
        if (value.type !== 'directory') await skipBelow(value.path);
      }
      if (steps.length > 0) yield steps;
    }
    const steps: Step<T>[] = [];
    for (let before = old.current; before !== undefined; before = old.current) await drop(before.path, steps);
    if (steps.length > 0) yield steps;
  } finally {
    await old.close();
  }

  async function drop(path: ByteString, steps: Step<T>[]): Promise<void> {
    if (stays?.(path)) {
      old.advance();
      if (old.needsLoad) await old.load();
      return;
    }
    steps.push({ kind: 'delete', path });
    await skipBelow(path);
  }

  async function skipBelow(path: ByteString): Promise<void> {
    for (let at = old.current; at !== undefined && isWithin(at.path, path); at = old.current) {
      old.advance();
      if (old.needsLoad) await old.load();
    }
  }
}

/** Goes through batches one value after the other, waiting only between batches. */
class BatchCursor<T> {
  readonly #batches: AsyncIterator<readonly T[]>;
  #batch: readonly T[] = [];
  #at = 0;
  #ended = false;

  constructor(batches: AsyncIterable<readonly T[]>) {
    this.#batches = batches[Symbol.asyncIterator]();
  }

  get current(): T | undefined {
    return this.#batch[this.#at];
  }

  get needsLoad(): boolean {
    return this.#at >= this.#batch.length && !this.#ended;
  }

  advance(): void {
    this.#at++;
  }

  async load(): Promise<void> {
    while (this.needsLoad) {
      const { done, value } = await this.#batches.next();
      this.#at = 0;
      this.#batch = done === true ? [] : value;
      this.#ended = done === true;
    }
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#batches.return?.();
    this.#ended = true;
  }
}
