import type { ByteString } from '../byte-string.ts';
import type { Xattr } from '../entry.ts';
import { joinPath } from '../path.ts';
import type { Pool } from '../threads/pool.ts';
import { namesOf, TYPE, TYPE_MASK } from './listing.ts';
import { type Piece, type ScannedDirectory, type Skipped, STATE, type Stretch } from './scan.ts';
import type { ImportTask } from './worker.ts';

/** An entry that matters, in path order. */
export interface Found {
  readonly path: ByteString;
  /** `STATE`. */
  readonly state: number;
  /** Where its numbers are: entry `index` of this piece. */
  readonly piece: Piece;
  readonly index: number;
  /** A directory's attributes. */
  readonly xattrs: readonly Xattr[] | undefined;
}

/** What is to be kept of a stretch of a directory, in place of what was kept of it. */
export interface Keep {
  readonly directory: ByteString;
  readonly first: ByteString;
  readonly until: ByteString | undefined;
  readonly listing: Uint8Array;
}

export interface WalkOptions {
  readonly pool: Pool<ImportTask, unknown>;
  /** Told of every stretch whose kept form changed, in path order. */
  readonly onKeep: (keep: Keep) => void;
  /** Told of a directory's listing that is not the kept one, after its stretches. */
  readonly onListed: (directory: ByteString, digest: string) => void;
  /** Told of every directory that is there no more. */
  readonly onGone: (directory: ByteString) => void;
  /** Told of every directory that went between the listing of its parent and its own. */
  readonly onVanished: (directory: ByteString) => void;
  readonly onSeen: (entries: number, skipped: Skipped) => void;
  readonly signal?: AbortSignal;
}

/** Entries that are scanned ahead of the one that is wanted next. */
const AHEAD = 32_768;
/** Directories in one task. */
const TOGETHER = 16;
/** Tasks that each thread has at a time, so that none waits for the main thread. */
const TASKS_PER_THREAD = 3;
/** Entries given at a time. */
const BATCH = 512;

/** A directory, or a stretch of a large one, that is to be scanned, is being scanned, or is scanned. */
interface Item {
  readonly path: ByteString;
  readonly stretch: Stretch | undefined;
  phase: 'queued' | 'running' | 'done';
  scanned: ScannedDirectory | undefined;
  piece: Piece | undefined;
  names: readonly ByteString[];
  /** Directories in this piece, or a directory's stretches. */
  below: readonly Item[];
  /** Of a directory's stretches: whether a name was lost in one. */
  lost: boolean;
  /** Neighbours among items that are not done, in path order. */
  previous: Item | undefined;
  next: Item | undefined;
}

/**
 * Everything below the root directory that matters, in path order, scanned by many threads at a time and some way ahead.
 * The root itself comes first, without a piece of its own (its path is the empty string).
 */
export async function* walk(options: WalkOptions): AsyncGenerator<Found[]> {
  yield* new Walk(options).run();
}

class Walk {
  readonly #options: WalkOptions;
  /** Sentinel of the list of items that are not done. */
  readonly #list: Item = item('' as ByteString);
  #running = 0;
  #ahead = 0;
  #failure: unknown;
  #wake: (() => void) | undefined;
  #batch: Found[] = [];

  constructor(options: WalkOptions) {
    this.#options = options;
    this.#list.next = this.#list;
    this.#list.previous = this.#list;
  }

  async *run(): AsyncGenerator<Found[]> {
    const { onKeep, onListed, onGone, onVanished, onSeen, signal } = this.#options;
    const root = item('' as ByteString);
    link(root, this.#list);
    /** What is being given, outermost first: a piece and the place in it, or a directory's stretches. */
    const stack: { item: Item; at: number; child: number }[] = [];

    const enter = async (entered: Item) => {
      await this.#done(entered);
      stack.push({ item: entered, at: 0, child: 0 });
      const { piece, stretch, path, scanned } = entered;
      if (piece === undefined) return;
      this.#ahead -= piece.count;
      onSeen(piece.seen, piece.skipped);
      const first = stretch?.first ?? ('' as ByteString);
      if (piece.keep) onKeep({ directory: path, first, until: stretch?.until, listing: piece.keep });
      if (stretch !== undefined) stack.at(-2)!.item.lost ||= piece.lost;
      else tell(path, scanned!, piece.lost);
    };
    /** What is kept of a directory of which something was lost must not be taken for what is there, whatever its listing is next time. */
    const tell = (path: ByteString, { listed, digest }: ScannedDirectory, lost: boolean) => {
      if (lost) onListed(path, '');
      else if (listed === 'anew') onListed(path, digest);
    };

    await enter(root);
    for (;;) {
      const top = stack.at(-1);
      if (top === undefined) break;
      if (this.#batch.length >= BATCH) {
        signal?.throwIfAborted();
        const batch = this.#batch;
        this.#batch = [];
        yield batch;
      }
      const { item: current } = top;
      const { piece } = current;
      if (piece === undefined) {
        // A large directory: its stretches one after the other.
        const stretch = current.below[top.at++];
        if (stretch !== undefined) await enter(stretch);
        else {
          tell(current.path, current.scanned!, current.lost);
          forget(current);
          stack.pop();
        }
        continue;
      }
      const index = top.at++;
      if (index === piece.count) {
        forget(current);
        stack.pop();
        continue;
      }
      const state = piece.states[index]!;
      const path = joinPath(current.path, current.names[index]!);
      const isDirectory = (piece.words[index]! & TYPE_MASK) === TYPE.directory;
      if (!isDirectory || state === STATE.gone) {
        if (state === STATE.replaced || (isDirectory && state === STATE.gone)) onGone(path);
        this.#batch.push({ path, state, piece, index, xattrs: undefined });
        continue;
      }
      const child = current.below[top.child++]!;
      if (child.phase !== 'done' && this.#batch.length > 0) {
        // What there is need not wait for the disk.
        const batch = this.#batch;
        this.#batch = [];
        yield batch;
      }
      await this.#done(child);
      const { vanished, xattrs } = child.scanned!;
      if (vanished) {
        onGone(path);
        onVanished(path);
        this.#batch.push({ path, state: STATE.gone, piece, index, xattrs: undefined });
        continue;
      }
      if (state !== STATE.same) this.#batch.push({ path, state, piece, index, xattrs });
      await enter(child);
    }
    if (this.#batch.length > 0) yield this.#batch;
  }

  /** Waits until `wanted` is scanned. */
  async #done(wanted: Item): Promise<void> {
    while (wanted.phase !== 'done') {
      this.#pump(wanted);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      if (this.#failure === undefined) await promise;
      if (this.#failure !== undefined) throw this.#failure;
      this.#options.signal?.throwIfAborted();
    }
    this.#pump(undefined);
  }

  /** Hands out tasks in path order: what is wanted now in any case, what lies ahead within limits. */
  #pump(wanted: Item | undefined): void {
    if (wanted?.phase === 'queued' && this.#running < this.#options.pool.size) this.#start([wanted]);
    let at = this.#list.next!;
    while (
      this.#ahead < AHEAD &&
      this.#running < TASKS_PER_THREAD * this.#options.pool.size &&
      this.#failure === undefined
    ) {
      while (at !== this.#list && at.phase !== 'queued') at = at.next!;
      if (at === this.#list) return;
      const together: Item[] = [at];
      at = at.next!;
      // Small tasks while there is little to do keep every thread busy.
      const most = this.#running < this.#options.pool.size ? 4 : TOGETHER;
      if (together[0]!.stretch === undefined)
        for (; at !== this.#list && together.length < most; at = at.next!) {
          if (at.phase !== 'queued' || at.stretch !== undefined) break;
          together.push(at);
        }
      this.#start(together);
    }
  }

  #start(items: readonly Item[]): void {
    const first = items[0]!;
    for (const each of items) each.phase = 'running';
    this.#running++;
    const { pool } = this.#options;
    if (first.stretch !== undefined) {
      const { path, stretch } = first;
      const transfer = stretch.names ? [stretch.names.buffer] : [];
      const { result } = pool.run({ kind: 'stretch', path, stretch }, { transfer });
      result.then(
        (piece) => this.#finish(() => this.#takePiece(first, piece as Piece)),
        (error) => this.#fail(error),
      );
      return;
    }
    const { result } = pool.run({ kind: 'directories', paths: items.map(({ path }) => path) });
    result.then(
      (scanned) =>
        this.#finish(() => {
          for (const [i, each] of items.entries()) this.#takeDirectory(each, (scanned as ScannedDirectory[])[i]!);
        }),
      (error) => this.#fail(error),
    );
  }

  #finish(take: () => void): void {
    this.#running--;
    take();
    this.#pump(undefined);
    this.#wake?.();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  #takeDirectory(taken: Item, scanned: ScannedDirectory): void {
    taken.scanned = scanned;
    if (scanned.piece) {
      this.#takePiece(taken, scanned.piece);
      return;
    }
    const below = scanned.stretches.map((stretch) => item(taken.path, stretch));
    this.#replace(taken, below);
  }

  #takePiece(taken: Item, piece: Piece): void {
    taken.piece = piece;
    taken.names = namesOf(piece);
    this.#ahead += piece.count;
    const below: Item[] = [];
    for (let i = 0; i < piece.count; i++)
      if ((piece.words[i]! & TYPE_MASK) === TYPE.directory && piece.states[i] !== STATE.gone)
        below.push(item(joinPath(taken.path, taken.names[i]!)));
    this.#replace(taken, below);
  }

  /** The item is done; what lies below it takes its place. */
  #replace(taken: Item, below: readonly Item[]): void {
    taken.phase = 'done';
    taken.below = below;
    const before = taken.next!;
    unlink(taken);
    for (const each of below) link(each, before);
  }
}

function item(path: ByteString, stretch?: Stretch): Item {
  return {
    path,
    stretch,
    phase: 'queued',
    scanned: undefined,
    piece: undefined,
    names: [],
    below: [],
    lost: false,
    previous: undefined,
    next: undefined,
  };
}

/** What was given is not kept until all that is beside it is given too. */
function forget(given: Item): void {
  given.scanned = undefined;
  given.piece = undefined;
  given.names = [];
  given.below = [];
}

/** Puts an item into the list before another. */
function link(added: Item, before: Item): void {
  added.previous = before.previous;
  added.next = before;
  before.previous!.next = added;
  before.previous = added;
}

function unlink(taken: Item): void {
  taken.previous!.next = taken.next;
  taken.next!.previous = taken.previous;
  taken.previous = undefined;
  taken.next = undefined;
}
