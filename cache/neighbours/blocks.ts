/** Of an object in the store, in bytes: what is fetched once, and checked alone. */
export const BLOCK_BYTES = 64 * 1024;

const MISSING = 0;
const CLAIMED = 1;
const PRESENT = 2;

export type BlockState = 'missing' | 'claimed' | 'present';

/** How many blocks so many bytes are. */
export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

/** Which blocks of an object are there, and which somebody fetches. */
export class Blocks {
  readonly #states: Uint8Array;
  #absent: number;

  constructor(count: number, state: 'missing' | 'present') {
    this.#states = new Uint8Array(count).fill(state === 'present' ? PRESENT : MISSING);
    this.#absent = state === 'present' ? 0 : count;
  }

  get count(): number {
    return this.#states.length;
  }

  /** Whether all are present. */
  get whole(): boolean {
    return this.#absent === 0;
  }

  state(block: number): BlockState {
    const state = this.#states[block];
    return state === PRESENT ? 'present' : state === CLAIMED ? 'claimed' : 'missing';
  }

  /** The end of the run of blocks from `block` that have its state, at most `end`. */
  runEnd(block: number, end: number): number {
    const state = this.#states[block];
    let at = block + 1;
    while (at < end && this.#states[at] === state) at += 1;
    return at;
  }

  claim(from: number, to: number): void {
    this.#states.fill(CLAIMED, from, to);
  }

  /** Claimed blocks are there. */
  arrived(from: number, to: number): void {
    this.#states.fill(PRESENT, from, to);
    this.#absent -= to - from;
  }

  /** What was claimed and did not come. */
  giveUp(from: number, to: number): void {
    for (let at = from; at < to; at++) if (this.#states[at] === CLAIMED) this.#states[at] = MISSING;
  }
}
