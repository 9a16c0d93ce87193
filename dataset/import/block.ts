import type { Held } from './slab.ts';

/** Memory that is used again once all who hold it have released it. */
export interface Shared extends Held {
  /** One more chunk in it is to be written. */
  hold(): void;
}

/** Bytes of one block: what a batch of files holds at most. */
export const BLOCK = 2 << 20;

/** Free blocks that are kept for what is read next: no fewer than there ever are, since one let go stays in memory for a while. */
const KEPT = 64;

/**
 * Memory that a thread fills with the chunks of one batch and that is written from where it is: shared, so that nothing is copied on
 * the way, and used again, so that its pages are there already.
 */
export class Block implements Shared {
  readonly memory = new SharedArrayBuffer(BLOCK);
  readonly #free: (block: Block) => void;
  #left = 0;
  #isSealed = false;

  constructor(free: (block: Block) => void) {
    this.#free = free;
  }

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

/** Blocks that a writer has, those that it has filled and told of not counted: room for nearly every chunk. */
const BLOCKS_GIVEN = 5;

/** Blocks that it needs besides for a chunk of so many stored bytes: where it begins in a full one, the others must hold it. */
export function extraBlocks(stored: number): number {
  return Math.max(0, Math.ceil(stored / BLOCK) + 1 - BLOCKS_GIVEN);
}

/** Bytes in a row of blocks. */
export interface Extent {
  /** Which one, counted from the first that its task was given. */
  readonly block: number;
  readonly offset: number;
  readonly length: number;
}

/** The blocks that a thread fills one after the other with the chunks of one file. */
export class BlockRow {
  readonly #blocks: Blocks;
  readonly #row: (Block | undefined)[] = [];
  #sealed = 0;
  #wanted = BLOCKS_GIVEN;

  constructor(blocks: Blocks) {
    this.#blocks = blocks;
  }

  /** Blocks that the thread may have written to, or may write to. */
  get open(): number {
    return this.#row.length - this.#sealed;
  }

  /**
   * Gives the thread the blocks that it lacks.
   * @param extra how many more it needs from here on than so far, or fewer
   */
  supply(extra: number, give: (memory: SharedArrayBuffer) => void): void {
    this.#wanted += extra;
    while (this.open < this.#wanted) {
      const block = this.#blocks.take();
      this.#row.push(block);
      give(block.memory);
    }
  }

  /** The bytes of one chunk, and what keeps them where they are. */
  at(extents: readonly Extent[]): { readonly bytes: readonly Buffer[]; readonly block: Shared } {
    const held = extents.map(({ block }) => this.#row[block]!);
    return {
      bytes: extents.map(({ block, offset, length }) => Buffer.from(this.#row[block]!.memory, offset, length)),
      block: {
        hold: () => {
          for (const each of held) each.hold();
        },
        release: () => {
          for (const each of held) each.release();
        },
      },
    };
  }

  /** Nothing more is written to the blocks before this one. */
  pass(block: number): void {
    for (; this.#sealed < block; this.#sealed++) {
      this.#row[this.#sealed]!.seal();
      this.#row[this.#sealed] = undefined;
    }
  }

  /** The thread writes to none of them any more. */
  end(): void {
    this.pass(this.#row.length);
  }
}
