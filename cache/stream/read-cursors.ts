/** How far before or after where a reader is expected a read still counts as its next: the kernel asks ahead, and out of order. */
const SLACK = 1024 * 1024;

/** Readers of one file that are told apart. */
const MOST = 16;

interface Cursor {
  start: number;
  /** Where its next read begins, if it goes on. */
  next: number;
  /** Up to where was asked for ahead of it. */
  ahead: number;
  /** By the count of reads. */
  used: number;
}

/**
 * Finds out who reads a file in order: several readers at a time, each with a position. What is fetched ahead of one grows with
 * what it has read in order, twice that; of a read somewhere else nothing follows. Positions in bytes.
 */
export class ReadCursors {
  readonly #cursors: Cursor[] = [];
  #reads = 0;

  /** @param window the most that may be fetched ahead. @returns up to where to fetch; the end of the read where nothing should be ahead */
  read(offset: number, length: number, window: number): number {
    const end = offset + length;
    const used = ++this.#reads;
    const cursor = this.#find(offset);
    if (!cursor) {
      this.#cursors.push({ start: offset, next: end, ahead: end, used });
      if (this.#cursors.length > MOST) this.#cursors.sort((a, b) => b.used - a.used).pop();
      return end;
    }
    cursor.used = used;
    // A reader that somebody else answers meanwhile is met again at the end of what was fetched for it.
    cursor.next = Math.max(cursor.next, end);
    cursor.ahead = Math.max(cursor.ahead, cursor.next + Math.min(window, 2 * (cursor.next - cursor.start)));
    return cursor.ahead;
  }

  /** How many were told apart so far; those long gone are forgotten only when others come. */
  get count(): number {
    return this.#cursors.length;
  }

  #find(offset: number): Cursor | undefined {
    let best: Cursor | undefined;
    for (const cursor of this.#cursors) {
      if (offset < cursor.next - SLACK || offset > cursor.ahead + SLACK) continue;
      if (!best || Math.abs(cursor.next - offset) < Math.abs(best.next - offset)) best = cursor;
    }
    return best;
  }
}
