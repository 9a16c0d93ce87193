import { type ByteString, textOf } from '../byte-string.ts';
import type { Entry } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import { comparePaths } from '../path.ts';

/** A change to a tree: an entry that is there from now on, or a path that is not, nor anything below it. */
export type EntryChange =
  | { readonly kind: 'put'; readonly entry: Entry }
  | { readonly kind: 'delete'; readonly path: ByteString };

export function pathOfChange(change: EntryChange): ByteString {
  return change.kind === 'put' ? change.entry.path : change.path;
}

/** Goes through batches of changes one by one, waiting only between batches, and checks their order. */
export class ChangeCursor {
  readonly #batches: AsyncIterator<readonly EntryChange[]>;
  #batch: readonly EntryChange[] = [];
  #at = 0;
  #ended = false;
  #last: EntryChange | undefined;

  constructor(changes: AsyncIterable<readonly EntryChange[]>) {
    this.#batches = changes[Symbol.asyncIterator]();
  }

  /** The next change; undefined at the end, or where `load` must be called first. */
  get current(): EntryChange | undefined {
    return this.#batch[this.#at];
  }

  get needsLoad(): boolean {
    return this.#at >= this.#batch.length && !this.#ended;
  }

  async load(): Promise<void> {
    while (this.needsLoad) {
      const { done, value } = await this.#batches.next();
      this.#at = 0;
      this.#batch = done === true ? [] : value;
      this.#ended = done === true;
    }
    this.#checkOrder();
  }

  advance(): void {
    this.#last = this.#batch[this.#at++];
    this.#checkOrder();
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    if (!this.#ended) await this.#batches.return?.();
    this.#ended = true;
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
