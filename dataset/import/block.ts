import type { Held } from './slab.ts';

/** Bytes of one block: what a batch of files holds at most. */
export const BLOCK = 2 << 20;

/** Free blocks that are kept for the next batch. */
const KEPT = 24;

/**
 * Memory that a thread fills with the chunks of one batch and that is written from where it is: shared, so that nothing is copied on
 * the way, and used again, so that its pages are there already.
 */
export class Block implements Held {
  readonly memory = new SharedArrayBuffer(BLOCK);
  readonly #free: (block: Block) => void;
  #left = 0;
  #isSealed = false;

  constructor(free: (block: Block) => void) {
    this.#free = free;
  }

  /** One more chunk in it is to be written. */
  hold(): void {
    this.#left++;
  }

  release(): void {
    this.#left--;
    this.#freeIfDone();
  }

  /** Nobody will hold more of it. */
  seal(): void {
    this.#isSealed = true;
    this.#freeIfDone();
  }

  #freeIfDone(): void {
    if (!this.#isSealed || this.#left > 0) return;
    this.#isSealed = false;
    this.#free(this);
  }
}

export class Blocks {
  readonly #kept: Block[] = [];

  take(): Block {
    return this.#kept.pop() ?? new Block((block) => this.#give(block));
  }

  #give(block: Block): void {
    if (this.#kept.length < KEPT) this.#kept.push(block);
  }
}
