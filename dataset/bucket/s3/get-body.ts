import { wrongAnswer } from './failure.ts';
import type { Inflow, Inlet } from './inflow.ts';

/** Bytes that came although reading was stopped (of a TLS record, and what was read with it), at most. */
const WAITING_LIMIT = 1024 * 1024;

/** The connection that a body comes over. */
interface Feed {
  /** There is room again. */
  resume(): void;
  /** Nobody wants the rest. */
  leave(): void;
}

/** An answer's body between its connection and the memory of its reader. What came and has no room is kept. */
export class GetBody implements Inlet {
  #feed: Feed | undefined;
  #inflow: Inflow | undefined;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #over: { readonly error: Error | undefined } | undefined;

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  open(inflow: Inflow): void {
    this.#inflow = inflow;
    this.resume();
  }

  resume(): void {
    const inflow = this.#inflow;
    if (inflow === undefined) return;
    try {
      while (this.#waiting.length > 0) {
        const bytes = this.#waiting[0]!;
        const done = inflow.put(bytes);
        this.#waitingBytes -= done;
        if (done < bytes.length) {
          this.#waiting[0] = bytes.subarray(done);
          return;
        }
        this.#waiting.shift();
      }
    } catch (error) {
      this.destroy();
      inflow.end(this, error as Error);
      return;
    }
    if (this.#over !== undefined) inflow.end(this, this.#over.error);
    else this.#feed?.resume();
  }

  destroy(): void {
    this.#waiting = [];
    this.#over ??= { error: undefined };
    const feed = this.#feed;
    this.#feed = undefined;
    feed?.leave();
  }

  /** For the connection: where the next bytes may go to without being copied; undefined where there is no such place now. */
  room(): Uint8Array | undefined {
    return this.isBehind ? undefined : this.#inflow!.room();
  }

  /** For the connection: so many bytes are where `room` said. */
  fill(bytes: number): void {
    this.#inflow!.fill(bytes);
  }

  /** For the connection: more of the body, which is copied. */
  put(bytes: Uint8Array): void {
    const done = this.isBehind ? 0 : this.#inflow!.put(bytes);
    if (done === bytes.length) return;
    this.#waitingBytes += bytes.length - done;
    if (this.#waitingBytes > WAITING_LIMIT) throw wrongAnswer('more than was read');
    this.#waiting.push(Buffer.from(bytes.subarray(done)));
  }

  /** For the connection: that was all, or no more comes. */
  end(error?: Error): void {
    if (this.#over !== undefined) return;
    this.#over = { error };
    this.#feed = undefined;
    // Who goes on with another connection asks for what he has not seen.
    if (error !== undefined) this.#waiting = [];
    if (!this.isBehind) this.#inflow!.end(this, error);
  }

  /** Whether nobody reads yet, or what came waits for room. */
  get isBehind(): boolean {
    return this.#inflow === undefined || this.#waiting.length > 0;
  }
}
