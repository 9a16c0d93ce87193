import { randomBytes } from 'node:crypto';
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ConflictError, isErrno, UnavailableError } from '../dataset/errors.ts';
import { abortable } from '../system/abortable.ts';
import {
  cloneFileAsync,
  copyFileRangeAsync,
  freeze,
  MS,
  mountAsync,
  seekData,
  seekHole,
  syncfs,
} from '../system/calls.ts';
import { attachLoop } from './loop.ts';
import { startThawGuard, thawIfFrozen } from './snapshot-guard.ts';
import { unmountAndRemove } from './unmount.ts';

export { thawLeftover } from './snapshot-guard.ts';

/** A workspace to clone, and where to. */
export interface CloneMember {
  /** The image file of a mounted workspace. */
  readonly file: string;
  /** Where its filesystem is mounted. */
  readonly at: string;
  /** The file to make: the image as it was at one moment. */
  readonly clone: string;
}

export interface PauseOptions {
  /** Thaw and give up after this long, in milliseconds: writers must not wait for ever. */
  readonly longestPause?: number;
  readonly signal?: AbortSignal;
}

export interface CloneOptions extends CloneMember, PauseOptions {
  /** Freeze the filesystem also where that is not needed: where the image's filesystem has reflink. */
  readonly freeze: boolean;
}

export interface Clone {
  /** How long writers waited at most, in milliseconds: for the freeze, or for the reflink alone. */
  readonly pauseMilliseconds: number;
  /** `copy`: the cache's filesystem has no reflink, so every used byte was copied while writers waited. */
  readonly method: 'reflink' | 'copy';
  /** The bytes that were copied: 0 for a reflink. */
  readonly bytesCopied: number;
}

const LONGEST_PAUSE = 60_000;
/** How long `whenSynced` may take, in milliseconds. */
const SYNCED_PATIENCE = 30_000;

const flush = promisify(fdatasync);

/**
 * Clones a live workspace's image. The clone is what a power cut at one moment would leave, with the log to replay: every file in it that
 * a writer had finished before the call, and of what was written since as much as had come to the disk.
 *
 * Where the image's filesystem has reflink, sync and reflink do it, and nothing is frozen: that filesystem lets nobody write to the image while it
 * is reflinked, so the clone is one moment of the device (docs/decisions/saves.md). Elsewhere the workspace is frozen while its used bytes are copied;
 * it is thawed whatever happens: in `finally`, after the longest pause, and, if this process is killed in between, by a second process that
 * waits for its end (`thaw-guard.ts`).
 */
export async function cloneImage(options: CloneOptions): Promise<Clone> {
  if (!options.freeze) {
    const clone = await cloneUnfrozen(options);
    if (clone !== undefined) return clone;
  }
  return (await cloneTogether([options], options)).clones[0]!;
}

/** `cloneImage` with no more pause than the disk needs. */
export function cloneWorkspace(options: CloneMember & PauseOptions): Promise<Clone> {
  return cloneImage({ ...options, freeze: false });
}

/** `cloneImage` where nothing has to be frozen for it; undefined, and no clone, where the image's filesystem has no reflink. */
export async function cloneUnfrozen({
  file,
  at,
  clone,
  signal,
}: CloneMember & Pick<PauseOptions, 'signal'>): Promise<Clone | undefined> {
  using member = new OpenMember({ file, at, clone });
  try {
    await member.sync();
    signal?.throwIfAborted();
    const started = performance.now();
    if (!(await member.reflink())) {
      member.drop();
      return undefined;
    }
    const pauseMilliseconds = performance.now() - started;
    await member.flush();
    return { pauseMilliseconds, method: 'reflink', bytesCopied: 0 };
  } catch (error) {
    member.drop();
    throw error;
  }
}

export interface TogetherOptions extends PauseOptions {
  /**
   * Called when most is written, before anything is frozen: to wait for others, on other nodes. Throws where they do not come by the time
   * that the signal tells.
   */
  readonly whenSynced?: (signal: AbortSignal) => Promise<void>;
  /**
   * Called when all are frozen, before any is cloned: to wait for others, on other nodes. Throws where they do not come; the signal tells that
   * the longest pause is over.
   */
  readonly whenFrozen?: (signal: AbortSignal) => Promise<void>;
}

export interface ClonesTogether {
  /** From the first freeze to the last thaw, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** In the order of the members. */
  readonly clones: readonly Clone[];
}

/** Freezes and syncs under way at once: calls that block hold threads of the pool, which has four. */
const AT_ONCE = 3;

/**
 * Clones several live workspaces as they were at one moment: all are frozen, then all cloned, then all thawed. One process guards all.
 * Either all clones are there afterwards, or none and an error.
 */
export async function cloneTogether(
  members: readonly CloneMember[],
  { longestPause = LONGEST_PAUSE, signal, whenSynced, whenFrozen }: TogetherOptions = {},
): Promise<ClonesTogether> {
  using stack = new DisposableStack();
  const open: OpenMember[] = [];
  try {
    for (const member of members) open.push(stack.use(new OpenMember(member)));
    const points = members.map(({ at }) => at);
    await using _guard = await startThawGuard(points, longestPause + (whenSynced === undefined ? 0 : SYNCED_PATIENCE));
    // Most of the writing happens before anybody waits.
    await each(open, (member) => member.sync());
    if (whenSynced) await whenSynced(AbortSignal.timeout(SYNCED_PATIENCE));
    signal?.throwIfAborted();
    const started = performance.now();
    const late = AbortSignal.timeout(longestPause);
    const stop = signal ? AbortSignal.any([late, signal]) : late;
    const frozen: OpenMember[] = [];
    let copied: Omit<Clone, 'pauseMilliseconds'>[];
    try {
      await each(open, async (member) => {
        stop.throwIfAborted();
        await member.freeze();
        frozen.push(member);
      });
      stop.throwIfAborted();
      if (whenFrozen) await abortable(whenFrozen(stop), stop);
      copied = await each(open, (member) => member.copy(stop));
      stop.throwIfAborted();
    } catch (error) {
      for (const member of frozen) thawIfFrozen(member.filesystem);
      if (!late.aborted) throw error;
      throw tooLong(members, longestPause, error);
    }
    thawAll(open);
    const pauseMilliseconds = performance.now() - started;
    await each(open, (member) => member.flush());
    return { pauseMilliseconds, clones: copied.map((each) => ({ ...each, pauseMilliseconds })) };
  } catch (error) {
    for (const member of open) member.drop();
    throw error;
  }
}

/** All of them, a few at a time; waits for all that were begun, also where one fails. */
async function each<Result>(
  members: readonly OpenMember[],
  act: (member: OpenMember) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < members.length; i = next++) results[i] = await act(members[i]!);
  };
  const ends = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, members.length) }, worker));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return results;
}

/** All, also where somebody was faster: that nobody thawed one before us is part of the proof that the clones are of one moment. */
function thawAll(members: readonly OpenMember[]): void {
  const early = members.filter((member) => !thawIfFrozen(member.filesystem));
  if (early.length === 0) return;
  const { file } = early[0]!;
  throw new UnavailableError(`somebody thawed the workspace ${file} while it was copied: take the snapshot again`, {
    facts: { file },
  });
}

function tooLong(members: readonly CloneMember[], longestPause: number, cause: unknown): UnavailableError {
  const files = members.map(({ file }) => file).join(', ');
  return new UnavailableError(
    `the workspace ${files} could not be copied within ${longestPause} ms and was thawed: put the cache on a filesystem with reflink (XFS, btrfs), or allow a longer pause`,
    { cause, facts: { file: members[0]!.file, longestPauseMilliseconds: longestPause } },
  );
}

/** The descriptors of a workspace that is being cloned. */
class OpenMember implements Disposable {
  readonly file: string;
  readonly filesystem: number;
  readonly #clone: string;
  readonly #image: number;
  readonly #target: number;
  readonly #stack: DisposableStack;

  constructor({ file, at, clone }: CloneMember) {
    using stack = new DisposableStack();
    const opened = (fd: number) => stack.adopt(fd, closeSync);
    this.file = file;
    this.#clone = clone;
    this.filesystem = opened(openSync(at, 'r'));
    this.#image = opened(openSync(file, 'r'));
    this.#target = opened(openSync(clone, 'wx+', 0o600));
    this.#stack = stack.move();
  }

  /** What writers wrote so far is in the image, on its disk. */
  async sync(): Promise<void> {
    await syncfs(this.filesystem);
    await flush(this.#image);
  }

  async freeze(): Promise<void> {
    try {
      await freeze(this.filesystem);
    } catch (error) {
      if (!isErrno(error, 'EBUSY')) throw error;
      throw new ConflictError(
        `the workspace ${this.file} is frozen already: another snapshot is being taken, try again`,
        { cause: error, facts: { file: this.file } },
      );
    }
  }

  /** False where the filesystem has no reflink. */
  async reflink(): Promise<boolean> {
    try {
      await cloneFileAsync(this.#image, this.#target);
      return true;
    } catch (error) {
      if (['ENOTSUP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS'].some((code) => isErrno(error, code))) return false;
      throw error;
    }
  }

  async copy(signal: AbortSignal): Promise<Omit<Clone, 'pauseMilliseconds'>> {
    if (await this.reflink()) return { method: 'reflink', bytesCopied: 0 };
    return { method: 'copy', bytesCopied: await copyData(this.#image, this.#target, signal) };
  }

  async flush(): Promise<void> {
    await flush(this.#target);
  }

  /** Removes the clone. */
  drop(): void {
    rmSync(this.#clone, { force: true });
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Copies what is no hole. @returns bytes copied */
async function copyData(from: number, to: number, signal: AbortSignal): Promise<number> {
  const { size } = fstatSync(from);
  ftruncateSync(to, size);
  let bytesCopied = 0;
  for (let data = seekData(from, 0); data !== undefined; ) {
    const end = seekHole(from, data) ?? size;
    for (let offset = data; offset < end; ) {
      signal.throwIfAborted();
      const copied = await copyFileRangeAsync(from, offset, to, offset, Math.min(end - offset, 64 << 20));
      if (copied === 0) throw new UnavailableError('the workspace image became shorter while it was copied');
      offset += copied;
      bytesCopied += copied;
    }
    data = seekData(from, end);
  }
  return bytesCopied;
}

/**
 * Names for a clone of a workspace and for where it is mounted; each call gives others, so that several may be at once. Where a daemon
 * starts, it removes files of such names.
 */
export function cloneNames({ file, at }: Pick<CloneMember, 'file' | 'at'>): {
  readonly clone: string;
  readonly at: string;
} {
  const suffix = `.${randomBytes(6).toString('hex')}.clone`;
  return { clone: file + suffix, at: at + suffix };
}

/** Removes what a process that was killed left of clones with such names. Only while nobody makes or reads one of this workspace. */
export async function removeClones({ file, at }: Pick<CloneMember, 'file' | 'at'>): Promise<void> {
  const left = (path: string) =>
    readdirSync(dirname(path))
      .filter((name) => name.startsWith(`${basename(path)}.`) && /\.[0-9a-f]{12}\.clone$/.test(name))
      .filter((name) => name.length === basename(path).length + '.0123456789ab.clone'.length)
      .map((name) => join(dirname(path), name));
  for (const mountPoint of left(at)) await unmountAndRemove(mountPoint);
  for (const clone of left(file)) rmSync(clone, { force: true });
}

/**
 * Mounts a clone to read it: the log is replayed into the clone, and `nouuid` lets it stand beside the workspace that it was made of.
 * @returns its upper directory
 */
export async function mountClone(options: { readonly clone: string; readonly at: string }): Promise<string> {
  using loop = await attachLoop({ file: options.clone, readOnly: false, directIo: true, blockSize: 4096 });
  const flags = MS.readOnly | MS.noSuid | MS.noDev | MS.noAtime;
  await mountAsync({ source: loop.path, target: options.at, type: 'xfs', flags, data: 'nouuid' });
  return join(options.at, 'upper');
}
