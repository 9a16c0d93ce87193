import { closeSync, mkdirSync, openSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteString, bytesOf, textOf } from '../../dataset/byte-string.ts';
import { type Change, type CommitOptions, commitChanges } from '../../dataset/commit.ts';
import type { Content } from '../../dataset/entry.ts';
import { ConflictError, CorruptError, UnavailableError } from '../../dataset/errors.ts';
import type { Version } from '../../dataset/version.ts';
import { syncfs } from '../../system/calls.ts';
import { faultPoint } from '../../system/fault.ts';
import { baseTree } from '../base-tree.ts';
import { backingFile } from '../loop.ts';
import { mountAt } from '../mount-table.ts';
import { cloneNames, cloneUnfrozen, mountClone } from '../snapshot.ts';
import { unmountAndRemove } from '../unmount.ts';
import { type SeenName, type UpperOptions, upperChanges } from '../upper.ts';
import { deltaChanges, NeedsWholeWalk } from './delta.ts';
import { factsOf, findChanges, type InodeChanges, isRacy, noFacts } from './facts.ts';
import type { Draft, SaveIndex } from './index.ts';
import { endOfLog } from './log-end.ts';

/** A mounted workspace. */
export interface SavePlace {
  readonly file: string;
  /** Where its filesystem is mounted. */
  readonly at: string;
}

export interface SaveOptions {
  readonly place: SavePlace;
  /** The version below the workspace. */
  readonly lower: Version;
  /** The version that this workspace was last saved as; undefined where it never was. */
  readonly last?: Version;
  readonly index: SaveIndex;
  /** How the version is made; its parents are the version below or the last snapshot, never an earlier save. */
  readonly commit: Pick<
    CommitOptions,
    'repository' | 'dataset' | 'author' | 'message' | 'meta' | 'parents' | 'pool' | 'onProgress'
  >;
  /** Nobody can write to the workspace until this is over: it is read itself, and not a clone of it. */
  readonly still?: boolean;
  readonly onSkip?: UpperOptions['onSkip'];
  readonly signal?: AbortSignal;
}

export interface SaveResult {
  /**
   * `idle`: the filesystem's log tells that nothing was done since the last save. `unchanged`: the tree is that of the last save, or of the version
   * below. `created`: a version was stored, which has no name yet.
   */
  readonly outcome: 'idle' | 'unchanged' | 'created';
  /** What the workspace holds: the new version, the last one, or the one below. */
  readonly version: Version;
  /** Whether the whole upper layer was gone through, or only what changed. */
  readonly walk: 'none' | 'changes' | 'whole';
  readonly cloneMilliseconds: number;
  /** How long writers waited, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** Of one that is `idle`: as long as the log ends here (log-end.ts), it would be again. */
  readonly logged?: string;
  readonly inodesSeen: number;
  readonly filesRead: number;
  readonly bytesRead: number;
  /**
   * To be called once the version has its name (`created`), so that the next save builds on it. Without it, the next save goes through
   * all of the upper layer.
   */
  readonly keep: () => void;
}

const nothing = { cloneMilliseconds: 0, pauseMilliseconds: 0, inodesSeen: 0, filesRead: 0, bytesRead: 0, keep() {} };

/**
 * Saves what a workspace holds as a version without a name, while it is written to. The work is in proportion to what was changed since the last
 * save that was kept (docs/decisions/saves.md); without one that fits, the whole upper layer is gone through, and of files that the index
 * knows nothing is read either.
 *
 * The version is what a power cut at one moment would leave, where the image's filesystem has reflink. Elsewhere files are read while they may be
 * written: each is one that was there, but not all of one moment, and one that never rests is left as it was last.
 */
export async function saveWorkspace(options: SaveOptions): Promise<SaveResult> {
  const { place, lower, last, index, still = false, signal } = options;
  refuseUnmounted(place);
  const filesystem = openSync(place.at, 'r');
  try {
    await syncfs(filesystem);
    const logged = endOfLog(filesystem);
    const state = index.state();
    const fits = state?.lower === lower.root && state.version === (last ?? lower).id;
    if (fits && logged !== undefined && state.logged === logged)
      return { ...nothing, outcome: 'idle', version: last ?? lower, walk: 'none', logged };

    const { clone, at } = cloneNames(place);
    try {
      const cut = BigInt(Date.now()) * 1_000_000n;
      const started = performance.now();
      const cloned = still ? undefined : await cloneUnfrozen({ ...place, clone, signal });
      faultPoint('save.cloned');
      const cloneMilliseconds = performance.now() - started;
      const pauseMilliseconds = cloned?.pauseMilliseconds ?? 0;
      // After the cut, so that it tells at least of what is in the clone.
      const found = fits ? await findChanges(filesystem, index.facts(), signal) : undefined;
      const about = { cloneMilliseconds, pauseMilliseconds };
      if (found && !found.linked && found.changed.size === 0) {
        index.setLogged(logged);
        const inodesSeen = found.inodes;
        return { ...nothing, ...about, outcome: 'unchanged', version: last ?? lower, walk: 'changes', inodesSeen };
      }
      let upper = join(place.at, 'upper');
      if (cloned) {
        mkdirSync(at, { mode: 0o700 });
        upper = await mountClone({ clone, at });
      }
      const save = new Save(options, { upper: bytesOf(upper), live: cloned === undefined && !still, cut, logged });
      return { ...(await save.run(found)), ...about };
    } finally {
      await unmountAndRemove(at);
      await rm(clone, { force: true });
    }
  } finally {
    closeSync(filesystem);
  }
}

/**
 * As `saveWorkspace`, of a clone that was made already, and is mounted: goes through all of its upper layer, and reads what the index does
 * not know.
 * @param options.upper the clone's upper directory
 * @param options.cut the time of day before the clone was made, in milliseconds
 */
export async function saveClone(
  options: Omit<SaveOptions, 'place' | 'still'> & { readonly upper: string; readonly cut: number },
): Promise<SaveResult> {
  const { upper, cut, ...rest } = options;
  const of = { upper: bytesOf(upper), live: false, cut: BigInt(cut) * 1_000_000n, logged: undefined };
  return { ...nothing, ...(await new Save(rest, of).run(undefined)) };
}

/** A directory on which it is not mounted looks like a workspace in which nothing was changed. */
function refuseUnmounted({ at, file }: SavePlace): void {
  const mounted = mountAt(realpathSync(at));
  if (mounted?.type === 'xfs' && backingFile(mounted.source) === realpathSync(file)) return;
  throw new UnavailableError(`the workspace ${file} is not mounted at ${at} any more`, { facts: { file, at } });
}

/** So many files are left out of a save at most. */
const BUSY_FILES = 16;

interface Cut {
  /** The upper directory to read: the clone's, or, where there is no reflink, the one that is written to. */
  readonly upper: ByteString;
  readonly live: boolean;
  /** Nanoseconds since 1970, before the cut. */
  readonly cut: bigint;
  readonly logged: string | undefined;
}

/** One save, from a clone on. */
class Save {
  readonly #options: Omit<SaveOptions, 'place'>;
  readonly #cut: Cut;
  readonly #busy = new Set<ByteString>();

  constructor(options: Omit<SaveOptions, 'place'>, cut: Cut) {
    this.#options = options;
    this.#cut = cut;
  }

  async run(found: InodeChanges | undefined) {
    if (found && !found.linked) {
      try {
        return await this.#patiently(found);
      } catch (error) {
        if (!(error instanceof NeedsWholeWalk)) throw error;
      }
    }
    try {
      return await this.#patiently(undefined);
    } catch (error) {
      // What the index knows of may have been collected since.
      if (!(error instanceof CorruptError) || error.facts.chunk === undefined) throw error;
      this.#options.index.clear();
      return await this.#patiently(undefined);
    }
  }

  /** Leaves out files that are written to all the time, where they are read while they are written. */
  async #patiently(found: InodeChanges | undefined) {
    for (;;) {
      try {
        return await this.#commit(found);
      } catch (error) {
        const { upper, live } = this.#cut;
        const path = error instanceof ConflictError ? error.facts.path : undefined;
        if (!live || typeof path !== 'string' || this.#busy.size === BUSY_FILES) throw error;
        // A name that is no text is shown otherwise than it is.
        const name = bytesOf(path).slice(upper.length + 1) as ByteString;
        if (!path.startsWith(textOf(upper)) || this.#busy.has(name)) throw error;
        this.#busy.add(name);
      }
    }
  }

  /** Files that are busy are what they were in the last save, or not there yet. */
  async *#withoutBusy(changes: AsyncIterable<Change[]>): AsyncGenerator<Change[]> {
    const { last, lower, commit, signal } = this.#options;
    const before = baseTree(commit.repository, (last ?? lower).root, signal);
    for await (const batch of changes) {
      const rest: Change[] = [];
      for (const change of batch) {
        if (change.kind !== 'read' || !this.#busy.has(change.file.path)) {
          rest.push(change);
          continue;
        }
        const entry = await before.find(change.file.path);
        if (entry?.type !== 'file') continue;
        const { link: _, ...alone } = entry;
        rest.push({
          kind: 'put',
          entry: change.file.link === undefined ? alone : { ...alone, link: change.file.link },
        });
      }
      yield rest;
    }
  }

  /** @param found what changed since the last save; undefined for a walk of all */
  async #commit(found: InodeChanges | undefined) {
    const { lower, last, index, commit, onSkip, signal } = this.#options;
    const seen = new Seen(index.draft(), this.#cut.cut);
    const { upper, live } = this.#cut;
    const walk: UpperOptions = {
      upper,
      live,
      base: baseTree(commit.repository, lower.root, signal),
      known: (file) => index.known(file),
      onSeen: (name) => seen.add(name),
      onSkip,
      signal,
    };
    let changes: AsyncIterable<Change[]>;
    if (found === undefined) changes = upperChanges(walk);
    else {
      const { root } = index.state()!;
      changes = deltaChanges({ ...walk, index, root, changed: found.changed, draft: seen.draft });
    }
    const before = last ?? lower;
    const { outcome, version, read } = await commitChanges({
      ...commit,
      base: found === undefined ? lower : before,
      same: before,
      changes: this.#busy.size === 0 ? changes : this.#withoutBusy(changes),
      onChanges: (batch) => {
        for (const change of batch) {
          if (change.kind === 'put' && change.entry.type === 'file')
            seen.contentOf(change.entry.path, change.entry.content);
        }
      },
      signal,
    });
    const root = seen.root ?? index.state()!.root;
    const logged = seen.racy ? undefined : this.#cut.logged;
    // What was left out is not known to the index, and looked for again.
    const keep =
      this.#busy.size > 0
        ? nothing.keep
        : () => index.keep(seen.draft, { lower: lower.root, version: version.id, root, logged }, found === undefined);
    // It has its name already.
    if (outcome === 'unchanged') keep();
    return {
      outcome,
      version,
      walk: found === undefined ? ('whole' as const) : ('changes' as const),
      inodesSeen: found?.inodes ?? seen.count,
      filesRead: read.files,
      bytesRead: read.bytes,
      keep: outcome === 'unchanged' ? nothing.keep : keep,
    };
  }
}

/** Notes what a walk comes by, and the contents of files once they are read. */
class Seen {
  readonly draft: Draft;
  root: number | undefined;
  /** Something may change after the cut without another change time. */
  racy = false;
  count = 0;
  readonly #cut: bigint;
  /** Files that are being read. */
  readonly #reading = new Map<ByteString, SeenName>();

  constructor(draft: Draft, cut: bigint) {
    this.draft = draft;
    this.#cut = cut;
  }

  add(seen: SeenName): void {
    const { parent, name, file, path, content } = seen;
    this.count += 1;
    const inode = Number(file.status.ino);
    if (parent === undefined) this.root = inode;
    else {
      const { kind } = file;
      const isPlain = kind === 'file' || kind === 'directory' || kind === 'whiteout';
      this.draft.name(Number(parent), name, inode, isPlain ? kind : 'other');
    }
    if (file.kind === 'whiteout') return;
    if (file.kind === 'file' && !file.metacopy && content === undefined) this.#reading.set(path, seen);
    else this.#inode(seen, content);
  }

  contentOf(path: ByteString, content: Content): void {
    const seen = this.#reading.get(path);
    if (seen === undefined) return;
    this.#reading.delete(path);
    this.#inode(seen, content);
  }

  #inode({ file, base }: SeenName, content: Content | undefined): void {
    const racy = isRacy(file.status, this.#cut);
    if (racy) this.racy = true;
    const facts = racy ? noFacts() : factsOf(file.status);
    const links = file.kind === 'file' ? Number(file.status.nlink) : 1;
    this.draft.inode(Number(file.status.ino), { facts, links, base, content });
  }
}
