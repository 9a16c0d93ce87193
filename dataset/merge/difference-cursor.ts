import type { ByteString } from '../byte-string.ts';
import type { Difference } from '../diff.ts';
import { isWithin } from '../path.ts';

/** Goes through differences one by one; the current one can be looked at before it is taken. */
export class DifferenceCursor {
  readonly #source: AsyncGenerator<Difference>;
  readonly #onTaken: ((difference: Difference) => void) | undefined;
  #current: Difference | undefined;

  private constructor(source: AsyncGenerator<Difference>, onTaken: ((difference: Difference) => void) | undefined) {
    this.#source = source;
    this.#onTaken = onTaken;
  }

  /** @param onTaken told of each difference that is taken or passed by */
  static async open(
    source: AsyncGenerator<Difference>,
    onTaken?: (difference: Difference) => void,
  ): Promise<DifferenceCursor> {
    const cursor = new DifferenceCursor(source, onTaken);
    await cursor.#load();
    return cursor;
  }

  /** Undefined at the end. */
  get current(): Difference | undefined {
    return this.#current;
  }

  /** The difference at `path`, if that is the current one; the next one is current then. */
  async takeAt(path: ByteString): Promise<Difference | undefined> {
    const taken = this.#current;
    if (taken?.path !== path) return undefined;
    await this.#advance();
    return taken;
  }

  /** Passes by all that lies at or below `path`. */
  async skipWithin(path: ByteString): Promise<void> {
    while (this.#current !== undefined && isWithin(this.#current.path, path)) await this.#advance();
  }

  async close(): Promise<void> {
    await this.#source.return(undefined);
  }

  async #advance(): Promise<void> {
    this.#onTaken?.(this.#current!);
    await this.#load();
  }

  async #load(): Promise<void> {
    const { done, value } = await this.#source.next();
    this.#current = done ? undefined : value;
  }
}
