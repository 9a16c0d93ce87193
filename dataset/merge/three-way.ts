import type { ByteString } from '../byte-string.ts';
import { type Difference, type DiffOptions, diffVersions } from '../diff.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { type EntryChange, findEntry } from '../manifest.ts';
import { comparePaths, isWithin } from '../path.ts';
import type { Repository } from '../repository.ts';
import { DifferenceCursor } from './difference-cursor.ts';
import { type ConflictKind, isDirectory, isSame, type Outcome, resolveEntry, type Side } from './entries.ts';
import { Survivors } from './survivors.ts';

/** Manifest roots. */
export interface MergedTrees {
  /** What both sides began from: none where they have nothing in common; several, as after merges crosswise, must agree on a path. */
  readonly bases: readonly Digest[];
  readonly ours: Digest;
  readonly theirs: Digest;
}

/** A path that both sides changed, each in its own way. */
export interface Conflict {
  readonly kind: ConflictKind;
  readonly path: ByteString;
  readonly base: Entry | undefined;
  readonly ours: Entry | undefined;
  readonly theirs: Entry | undefined;
  /** Whether it is about all that lies below the path too. */
  readonly whole: boolean;
  /** Whom the user chose; undefined where nobody did. */
  readonly taken: Side | undefined;
}

/** A change to make to ours, or a conflict. In path order. */
export type MergeStep =
  | { readonly kind: 'change'; readonly change: EntryChange }
  | { readonly kind: 'conflict'; readonly conflict: Conflict };

export interface MergeTreesOptions {
  /** Whom the user chose for a path in conflict. */
  readonly choose?: (path: ByteString) => Side | undefined;
  /** Told of each of our differences from the base, before the steps that follow from later paths. */
  readonly onOurs?: (difference: Difference) => void;
  readonly signal?: AbortSignal;
}

/**
 * Merges trees by path: the changes that make ours the merged tree, and what is in conflict. Follows the differences between the base and
 * either side, and reads nothing else of the trees but what a choice or a directory that was taken away needs; memory does not grow with
 * any of them. Which changes of a path go together, `resolveEntry` tells. Besides:
 *
 * - A directory that one side removed stays, or comes back, if the other side added or changed something in it.
 * - Where one side made something else of a directory in which the other side changed something, and where only one side has a directory,
 *   the path with all below it is one conflict.
 */
export async function* mergeTrees(
  repository: Repository,
  trees: MergedTrees,
  options: MergeTreesOptions = {},
): AsyncGenerator<MergeStep> {
  const merge = new ThreeWay(repository, trees, options);
  try {
    yield* merge.run();
  } finally {
    await merge.close();
  }
}

/** A path on both sides and in the first base. */
interface Place {
  readonly path: ByteString;
  readonly base: Entry | undefined;
  readonly ours: Entry | undefined;
  readonly theirs: Entry | undefined;
  /** The leaves in which the sides' entries are, where they differ from the base's. */
  readonly ourLeaf: Digest | undefined;
  readonly theirLeaf: Digest | undefined;
}

class ThreeWay {
  readonly #repository: Repository;
  readonly #trees: MergedTrees;
  readonly #choose: (path: ByteString) => Side | undefined;
  readonly #onOurs: ((difference: Difference) => void) | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #ourSurvivors: Survivors;
  readonly #theirSurvivors: Survivors;
  readonly #opened: DifferenceCursor[] = [];
  /** What the last change took away, or took the place of, with all below it. */
  #removed: ByteString | undefined;
  /** Directories that we removed and they still have, outermost first: they come back with the first thing in them. */
  #gone: Entry[] = [];
  /** What we made something else of than a directory, while they have one. */
  #barred: Place | undefined;

  constructor(repository: Repository, trees: MergedTrees, { choose, onOurs, signal }: MergeTreesOptions) {
    this.#repository = repository;
    this.#trees = trees;
    this.#choose = choose ?? (() => undefined);
    this.#onOurs = onOurs;
    this.#signal = signal;
    const [base] = trees.bases;
    this.#ourSurvivors = new Survivors('ours', () => this.#diff(base, trees.ours), this.#choose);
    this.#theirSurvivors = new Survivors('theirs', () => this.#diff(base, trees.theirs), this.#choose);
  }

  async close(): Promise<void> {
    for (const cursor of this.#opened) await cursor.close();
    await this.#ourSurvivors.close();
    await this.#theirSurvivors.close();
  }

  async *run(): AsyncGenerator<MergeStep> {
    const [base] = this.#trees.bases;
    const mine = await DifferenceCursor.open(this.#diff(base, this.#trees.ours), this.#onOurs);
    this.#opened.push(mine);
    const other = await DifferenceCursor.open(this.#diff(base, this.#trees.theirs));
    this.#opened.push(other);
    for (;;) {
      this.#signal?.throwIfAborted();
      const path = earlier(mine.current?.path, other.current?.path);
      if (path === undefined) return;
      const [a, b] = [await mine.takeAt(path), await other.takeAt(path)];
      const before = (a ?? b)!.before;
      const place: Place = {
        path,
        base: before,
        ours: a ? a.after : before,
        theirs: b ? b.after : before,
        ourLeaf: a?.leaf,
        theirLeaf: b?.leaf,
      };
      this.#leave(path);
      const conflict = yield* this.#merge(place);
      if (conflict?.whole !== true) continue;
      await mine.skipWithin(path);
      await other.skipWithin(path);
    }
  }

  /** @returns the conflict that it is, if it is one */
  async *#merge(place: Place): AsyncGenerator<MergeStep, Conflict | undefined> {
    const { path, ours, theirs } = place;
    const outcome = await this.#resolve(place);
    if (outcome.kind === 'conflict') return yield* this.#settle(place, outcome.conflict);
    if (outcome.kind === 'merged') {
      yield* this.#put(outcome.entry, await this.#leafOf(place, outcome.content));
    } else if (outcome.kind === 'ours') {
      if (!isDirectory(theirs) || isDirectory(ours)) return undefined;
      if (ours === undefined) this.#gone.push(theirs);
      else if (await this.#theirSurvivors.areIn(path)) return yield* this.#settle(place, 'file-directory');
      else this.#barred = place;
    } else {
      if (isDirectory(ours) && !isDirectory(theirs) && (await this.#keepsSomething(path))) {
        // With something of ours in it, a directory that they removed stays as it is.
        return theirs === undefined ? undefined : yield* this.#settle(place, 'file-directory');
      }
      if (theirs === undefined) yield* this.#delete(path);
      else if (this.#barred !== undefined) return yield* this.#settle(place, 'file-directory');
      else yield* this.#put(theirs, await this.#leafOf(place, 'theirs'));
    }
    return undefined;
  }

  /** The leaf in which a side's entry is: known, unless it is as the first base has it, and another base tells what becomes of it. */
  async #leafOf({ path, ourLeaf, theirLeaf }: Place, side: Side): Promise<Digest | undefined> {
    const known = side === 'ours' ? ourLeaf : theirLeaf;
    if (known !== undefined || this.#trees.bases.length < 2) return known;
    const { ours, theirs } = this.#trees;
    const [before, after] = side === 'ours' ? [theirs, ours] : [ours, theirs];
    for await (const difference of this.#diff(before, after, { prefix: path }))
      if (difference.path === path) return difference.leaf;
    return undefined;
  }

  /** Reports a conflict, and takes theirs where the user chose it. */
  async *#settle(place: Place, kind: ConflictKind): AsyncGenerator<MergeStep, Conflict> {
    const { path, base, ours, theirs } = place;
    const whole = isDirectory(ours) !== isDirectory(theirs);
    const chosen = this.#choose(path);
    // Nothing can be in a file of ours: that file is what theirs must be chosen for.
    const taken = this.#barred !== undefined && chosen === 'theirs' ? undefined : chosen;
    const conflict: Conflict = { kind, path, base, ours, theirs, whole, taken };
    yield { kind: 'conflict', conflict };
    if (taken !== 'theirs') return conflict;
    if (!whole && place.theirLeaf !== undefined && theirs) yield* this.#put(theirs, place.theirLeaf);
    else if (!whole && theirs === undefined) yield* this.#delete(path);
    else
      for await (const difference of this.#diff(this.#trees.ours, this.#trees.theirs, { prefix: path })) {
        const { after, leaf } = difference;
        if (after === undefined) yield* this.#delete(difference.path);
        else yield* this.#put(after, leaf);
      }
    return conflict;
  }

  /**
   * With several bases, one that both sides changed differently says nothing, if another one tells who changed the path since. Those that
   * tell must agree: else one side took back what the other has.
   */
  async #resolve({ path, base, ours, theirs }: Place): Promise<Outcome> {
    let outcome = resolveEntry(base, ours, theirs);
    for (const root of this.#trees.bases.slice(1)) {
      const other = resolveEntry(await findEntry(this.#repository, root, path, this.#signal), ours, theirs);
      if (other.kind === 'conflict' || agree(outcome, other)) continue;
      if (outcome.kind === 'conflict') outcome = other;
      // Whatever comes out for directories does no harm.
      else if (isDirectory(ours) && isDirectory(theirs)) return outcome;
      else
        return {
          kind: 'conflict',
          conflict: isDirectory(ours) !== isDirectory(theirs) ? 'file-directory' : 'both-modified',
        };
    }
    return outcome;
  }

  /** Whether something of ours stays in a directory that they removed. */
  async #keepsSomething(directory: ByteString): Promise<boolean> {
    if (await this.#ourSurvivors.areIn(directory)) return true;
    const { bases, ours, theirs } = this.#trees;
    if (bases.length < 2) return false;
    // What the first base says goes may be what another one says stays.
    for await (const { path, before, after } of this.#diff(ours, theirs, { prefix: directory })) {
      if (after !== undefined || isDirectory(before)) continue;
      const base = await findEntry(this.#repository, bases[0]!, path, this.#signal);
      const place: Place = { path, base, ours: before, theirs: after, ourLeaf: undefined, theirLeaf: undefined };
      const { kind } = await this.#resolve(place);
      if (kind === 'ours' || (kind === 'conflict' && this.#choose(path) !== 'theirs')) return true;
    }
    return false;
  }

  *#put(entry: Entry, leaf: Digest | undefined): Generator<MergeStep> {
    for (const directory of this.#gone) yield { kind: 'change', change: { kind: 'put', entry: directory } };
    this.#gone = [];
    if (!isDirectory(entry)) this.#removed = entry.path;
    yield { kind: 'change', change: { kind: 'put', entry, ...(leaf && { leaf }) } };
  }

  *#delete(path: ByteString): Generator<MergeStep> {
    if (this.#removed !== undefined && isWithin(path, this.#removed)) return;
    this.#removed = path;
    yield { kind: 'change', change: { kind: 'delete', path } };
  }

  /** Forgets what does not hold `path`. */
  #leave(path: ByteString): void {
    this.#gone = this.#gone.filter((directory) => isWithin(path, directory.path));
    if (this.#barred !== undefined && !isWithin(path, this.#barred.path)) this.#barred = undefined;
  }

  #diff(before: Digest | undefined, after: Digest, options: DiffOptions = {}): AsyncGenerator<Difference> {
    return diffVersions(this.#repository, before, after, { ...options, signal: this.#signal });
  }
}

function earlier(a: ByteString | undefined, b: ByteString | undefined): ByteString | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return comparePaths(a, b) <= 0 ? a : b;
}

function agree(a: Outcome, b: Outcome): boolean {
  if (a.kind !== b.kind) return false;
  return a.kind !== 'merged' || (b.kind === 'merged' && isSame(a.entry, b.entry) && a.content === b.content);
}
