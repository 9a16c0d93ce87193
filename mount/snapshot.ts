import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ConflictError, isErrno, UnavailableError } from '../dataset/errors.ts';
import {
  cloneFileAsync,
  copyFileRangeAsync,
  freeze,
  MS,
  mountAsync,
  seekData,
  seekHole,
  syncfs,
  thaw,
} from '../system/calls.ts';
import { attachLoop } from './loop.ts';

export interface SnapshotOptions {
  /** The image file of a mounted workspace. */
  readonly file: string;
  /** Where its filesystem is mounted. */
  readonly at: string;
  /** The file to make: the image as it was at one moment. */
  readonly clone: string;
  /** Thaw and give up after this long, in milliseconds: writers must not wait for ever. */
  readonly longestPause?: number;
  readonly signal?: AbortSignal;
}

export interface SnapshotClone {
  /** How long writers waited, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** `copy`: the cache's filesystem has no reflink, so every used byte was copied while writers waited. */
  readonly method: 'reflink' | 'copy';
  /** The bytes that were copied: 0 for a reflink. */
  readonly bytesCopied: number;
}

const LONGEST_PAUSE = 60_000;

/**
 * Clones a live workspace's image: sync, freeze, clone, thaw. The clone is what a power cut at that moment would leave, with the log
 * to replay, and every file in it that a writer had finished. It is thawed whatever happens: in `finally`, after the longest pause, and,
 * if this process is killed in between, by a second process that waits for its end (`thaw-guard.ts`).
 */
export async function cloneWorkspace(options: SnapshotOptions): Promise<SnapshotClone> {
  const { file, at, clone, longestPause = LONGEST_PAUSE } = options;
  const filesystem = openSync(at, 'r');
  const image = openSync(file, 'r');
  let target: number | undefined;
  try {
    target = openSync(clone, 'wx+', 0o600);
    const result = await copyFrozen({ ...options, longestPause }, filesystem, image, target);
    await flush(target);
    return result;
  } catch (error) {
    if (target !== undefined) rmSync(clone, { force: true });
    throw error;
  } finally {
    for (const fd of [filesystem, image, target]) if (fd !== undefined) closeSync(fd);
  }
}

const flush = promisify(fdatasync);

async function copyFrozen(
  { file, at, longestPause, signal }: SnapshotOptions & { readonly longestPause: number },
  filesystem: number,
  image: number,
  target: number,
): Promise<SnapshotClone> {
  await using _guard = await startThawGuard(at, longestPause);
  // Most of the writing happens before anybody waits.
  await syncfs(filesystem);
  await flush(image);
  signal?.throwIfAborted();
  const started = performance.now();
  const late = AbortSignal.timeout(longestPause);
  await freezeOnce(filesystem, file);
  let copied: Pick<SnapshotClone, 'method' | 'bytesCopied'>;
  try {
    copied = await copyImage(image, target, signal ? AbortSignal.any([late, signal]) : late);
  } catch (error) {
    thawIfFrozen(filesystem);
    if (!late.aborted) throw error;
    throw new UnavailableError(
      `the workspace ${file} could not be copied within ${longestPause} ms and was thawed: put the cache on a filesystem with reflink (XFS, btrfs), or allow a longer pause`,
      { cause: error, facts: { file, longestPauseMilliseconds: longestPause } },
    );
  }
  thawInTime(filesystem, file);
  return { pauseMilliseconds: performance.now() - started, ...copied };
}

async function freezeOnce(filesystem: number, file: string): Promise<void> {
  try {
    await freeze(filesystem);
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error;
    throw new ConflictError(`the workspace ${file} is frozen already: another snapshot is being taken, try again`, {
      cause: error,
      facts: { file },
    });
  }
}

/** That nobody thawed it before us is part of the proof that the clone is of one moment. */
function thawInTime(filesystem: number, file: string): void {
  try {
    thaw(filesystem);
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error;
    throw new UnavailableError(`somebody thawed the workspace ${file} while it was copied: take the snapshot again`, {
      cause: error,
      facts: { file },
    });
  }
}

async function copyImage(
  from: number,
  to: number,
  signal: AbortSignal,
): Promise<Pick<SnapshotClone, 'method' | 'bytesCopied'>> {
  try {
    await cloneFileAsync(from, to);
    return { method: 'reflink', bytesCopied: 0 };
  } catch (error) {
    if (!['ENOTSUP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS'].some((code) => isErrno(error, code))) throw error;
  }
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
  return { method: 'copy', bytesCopied };
}

/**
 * A process that holds the filesystem open and thaws it when its standard input ends, which it does when this process does, or when
 * time is up. Ready when this returns; ended, without thawing, when disposed.
 */
async function startThawGuard(at: string, longestPause: number): Promise<AsyncDisposable> {
  const script = join(import.meta.dirname, 'thaw-guard.ts');
  const child = spawn(process.execPath, [script, at, String(longestPause + 1000)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const exited = once(child, 'exit');
  // Its end is not awaited where it could not be started.
  exited.catch(() => {});
  try {
    const first = await Promise.race([once(child.stdout!, 'data').then(() => 'ready'), exited.then(() => 'ended')]);
    if (first !== 'ready') throw new UnavailableError('it ended at once');
  } catch (error) {
    throw new UnavailableError(`no snapshot of ${at}: the process that would thaw it after a crash cannot be started`, {
      cause: error,
    });
  }
  return {
    async [Symbol.asyncDispose]() {
      child.stdin!.write('done\n');
      await exited;
    },
  };
}

/**
 * Thaws a workspace that a crash left frozen; a daemon calls it at its start for each workspace that it finds mounted.
 * @returns whether it was frozen
 */
export function thawLeftover(at: string): boolean {
  const fd = openSync(at, 'r');
  try {
    return thawIfFrozen(fd);
  } finally {
    closeSync(fd);
  }
}

function thawIfFrozen(filesystem: number): boolean {
  try {
    thaw(filesystem);
    return true;
  } catch (error) {
    if (isErrno(error, 'EINVAL')) return false;
    throw error;
  }
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
