import { type ByteString, textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import { comparePaths } from '../path.ts';

/**
 * A change to a tree: an entry that is there from now on, or a path that is not, nor anything below it. `leaf` is a leaf segment of any
 * stored tree that holds the entry's chunks too: its locations tell where they lie.
 */
export type EntryChange =
  | { readonly kind: 'put'; readonly entry: Entry; readonly leaf?: Digest }
  | { readonly kind: 'delete'; readonly path: ByteString };

export function pathOfChange(change: EntryChange): ByteString {
  return change.kind === 'put' ? change.entry.path : change.path;
}

export interface ChangeCursorOptions {
  /** Changes that are fetched before they are needed; none if not said. */
  readonly ahead?: number;
  /** Told of each batch as it is fetched. */
  readonly onFetched?: (batch: readonly EntryChange[]) => void;
}

/**
 * Goes through batches of changes one by one, waiting only between batches, and checks their order. Fetches some ahead where it is asked
 * to; a failure of the source comes at its place.
 */
export class ChangeCursor {
  readonly #batches: AsyncIterator<readonly EntryChange[]>;
  readonly #options: ChangeCursorOptions;
  #batch: readonly EntryChange[] = [];
  #at = 0;
  #fetched: (readonly EntryChange[])[] = [];
  /** Changes in those batches. */
  #waiting = 0;
  #fetching: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #ended = false;
  #last: EntryChange | undefined;

  constructor(changes: AsyncIterable<readonly EntryChange[]>, options: ChangeCursorOptions = {}) {
    this.#batches = changes[Symbol.asyncIterator]();
    this.#options = options;
  }

  /** The next change; undefined at the end, or where `load` must be called first. */
  get current(): EntryChange | undefined {
    return this.#batch[this.#at];
  }

  get needsLoad(): boolean {
    return this.#at >= this.#batch.length && !(this.#ended && this.#fetched.length === 0 && !this.#failure);
  }

  async load(): Promise<void> {
    while (this.needsLoad) {
      if (this.#fetched.length === 0) {
        if (this.#failure !== undefined) throw this.#failure.error;
        await this.#fetch();
        continue;
      }
      this.#batch = this.#fetched.shift()!;
      this.#waiting -= this.#batch.length;
      this.#at = 0;
    }
    void this.#fetchAhead();
    this.#checkOrder();
  }

  advance(): void {
    this.#last = this.#batch[this.#at++];
    this.#checkOrder();
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    const { return: end } = this.#batches;
    const isOver = this.#ended;
    this.#ended = true;
    if (!isOver) await end?.call(this.#batches);
  }

  /** Fetches the next batch, if it is not being fetched already. Never fails. */
  #fetch(): Promise<void> {
    this.#fetching ??= this.#batches
      .next()
      .then(
        ({ done, value }) => {
          if (done === true) this.#ended = true;
          else {
            this.#fetched.push(value);
            this.#waiting += value.length;
            this.#options.onFetched?.(value);
          }
        },
        (error: unknown) => {
          this.#failure = { error };
          this.#ended = true;
        },
      )
      .finally(() => {
        this.#fetching = undefined;
      });
    return this.#fetching;
  }

  async #fetchAhead(): Promise<void> {
    const { ahead = 0 } = this.#options;
    if (this.#fetching !== undefined) return;
    while (!this.#ended && this.#waiting < ahead) await this.#fetch();
  }

  #checkOrder(): void {
    const { current } = this;
    if (current === undefined || this.#last === undefined) return;
    const [before, path] = [pathOfChange(this.#last), pathOfChange(current)];
    const order = comparePaths(before, path);
    if (order < 0 || (order === 0 && this.#last.kind === 'delete' && current.kind === 'put')) return;
    throw new InvalidError(
      `the change of '${textOf(path)}' comes after that of '${textOf(before)}', which is no path order`,
    );
  }
}
