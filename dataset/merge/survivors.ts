import type { ByteString } from '../byte-string.ts';
import type { Difference } from '../diff.ts';
import { comparePaths, isWithin } from '../path.ts';
import { isDirectory, isOnlyTouched, type Side } from './entries.ts';

/**
 * Tells whether something that one side added or changed stays in a directory that the other side took away. Looks ahead through that side's
 * differences, once: directories are asked for in path order.
 */
export class Survivors {
  readonly #side: Side;
  readonly #choose: (path: ByteString) => Side | undefined;
  readonly #open: () => AsyncGenerator<Difference>;
  #source: AsyncGenerator<Difference> | undefined;
  #current: ByteString | undefined;
  #ended = false;
  /** What became a directory on this side, and gives way to the other. */
  #given: ByteString | undefined;

  /**
   * @param open the side's differences, from the version that both sides began from
   * @param choose whom the user chose for a conflict
   */
  constructor(side: Side, open: () => AsyncGenerator<Difference>, choose: (path: ByteString) => Side | undefined) {
    this.#side = side;
    this.#open = open;
    this.#choose = choose;
  }

  async areIn(directory: ByteString): Promise<boolean> {
    while (!this.#ended && (this.#current === undefined || comparePaths(this.#current, directory) <= 0))
      await this.#advance();
    return this.#current !== undefined && isWithin(this.#current, directory);
  }

  async close(): Promise<void> {
    await this.#source?.return(undefined);
  }

  async #advance(): Promise<void> {
    this.#source ??= this.#open();
    for (;;) {
      const { done, value } = await this.#source.next();
      if (done) {
        this.#ended = true;
        this.#current = undefined;
        return;
      }
      if (this.#stays(value)) {
        this.#current = value.path;
        return;
      }
    }
  }

  /** Where the other side has nothing at the path, or no directory above it. */
  #stays({ path, before, after }: Difference): boolean {
    if (after === undefined || (this.#given !== undefined && isWithin(path, this.#given))) return false;
    if (before === undefined) return true;
    // A directory by itself is taken away; a file with another time only, too.
    if ((isDirectory(before) && isDirectory(after)) || isOnlyTouched(before, after)) return false;
    const chosen = this.#choose(path);
    if (chosen === undefined || chosen === this.#side) return true;
    this.#given = path;
    return false;
  }
}
