import { existsSync, mkdirSync } from 'node:fs';
import { bytesOf } from '../../dataset/byte-string.ts';
import { commitChanges, readingPool } from '../../dataset/commit.ts';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, NotFoundError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import { fromThreadError, toThreadError } from '../../dataset/threads/thread-error.ts';
import { readVersion, type Version } from '../../dataset/version.ts';
import { baseTree } from '../../mount/base-tree.ts';
import { type SaveResult, saveWorkspace } from '../../mount/save/engine.ts';
import type { SaveIndex } from '../../mount/save/index.ts';
import { loggedUntil } from '../../mount/save/log-end.ts';
import { mountClone } from '../../mount/snapshot.ts';
import { unmountAndRemove } from '../../mount/unmount.ts';
import { type UpperOptions, upperChanges } from '../../mount/upper.ts';
import { isRefusedByDisk } from '../../system/database.ts';
import { accessWithin, createRepositories } from '../repositories.ts';
import { identityOf, openIndexes } from './open-indexes.ts';
import type {
  CommitJob,
  CommittedClone,
  Saved,
  SaveJob,
  SaverAnswer,
  SaverOrder,
  VersionToMake,
} from './saver-protocol.ts';

/** Where orders come from, and answers go to: this process, for the daemon that started it. */
export type DaemonSide = Pick<NodeJS.Process, 'on' | 'send'>;

/** How long a request of a save may stand still: four times as long as accessWithin lets it, in milliseconds. */
const PATIENCE = 40_000;
/** Versions that are remembered: of each workspace the one below and the last one. */
const VERSIONS = 256;

interface Running {
  readonly stopping: AbortController;
  /** Of a save that waits for a name of its version. */
  readonly kept: PromiseWithResolvers<boolean>;
}

/** What was found of a workspace last: as long as its log ends there, nothing was done. */
interface Rest {
  readonly compared: string;
  readonly logged: string;
  readonly saved: Pick<Saved, 'version' | 'root'>;
}

const IDLE = {
  outcome: 'idle',
  walk: 'none',
  cloneMilliseconds: 0,
  pauseMilliseconds: 0,
  inodesSeen: 0,
  filesRead: 0,
  bytesRead: 0,
} as const;

/** Does what the daemon orders. */
export function serveSaves(daemon: DaemonSide, mostIndexes: number): void {
  const repositories = createRepositories({ access: accessWithin(PATIENCE) });
  const indexes = openIndexes(mostIndexes);
  // One for all saves: threads take longer to start than most saves to be done.
  const pool = readingPool();
  const running = new Map<number, Running>();
  const versions = new Map<string, Version>();
  const resting = new Map<string, Rest>();
  const send = (answer: SaverAnswer) => daemon.send!(answer);

  const versionOf = async (repository: Repository, id: Digest, signal: AbortSignal): Promise<Version> => {
    const known = versions.get(id);
    versions.delete(id);
    const version = known ?? (await readVersion(repository, id, signal));
    versions.set(id, version);
    if (versions.size > VERSIONS) versions.delete(versions.keys().next().value!);
    return version;
  };

  const commitOf = (repository: Repository, order: VersionToMake, job: number) => {
    const { dataset, author, message, meta, parents } = order;
    let told = 0;
    const onProgress = ({ files, bytes }: { files: number; bytes: number }) => {
      // Some times a second: nobody looks more often.
      if (performance.now() - told < 200) return;
      told = performance.now();
      send({ job, progress: { files, bytes } });
    };
    return { repository, dataset, author, message, ...(meta && { meta }), parents, pool, onProgress };
  };

  const save = async (order: SaveJob, job: number, signal: AbortSignal): Promise<[Saved, SaveResult | undefined]> => {
    const { file, at, still } = order;
    const before = process.cpuUsage();
    const cost = () => {
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1000;
    };
    const compared = comparedBy(order, order.last);
    const rest = resting.get(file);
    if (rest?.compared === compared && (await loggedUntil(at)) === rest.logged)
      return [{ ...IDLE, ...rest.saved, logged: rest.logged, cpuMilliseconds: cost() }, undefined];
    resting.delete(file);
    using opened = indexes.open(order.index);
    const { index } = opened;
    const repository = await repositories.at(order.repository);
    const lower = await versionOf(repository, order.lower, signal);
    const last = await lastOf(index, lower, order.last, (id) => versionOf(repository, id, signal));
    const commit = commitOf(repository, order, job);
    const result = await saveWorkspace({ place: { file, at }, lower, last, index, commit, still, signal });
    const { keep: _, version, ...rested } = result;
    versions.set(version.id, version);
    return [{ ...rested, version: version.id, root: version.root, cpuMilliseconds: cost() }, result];
  };

  /** Once a save is over and named, what was found tells whether anything was done since. */
  const remember = (order: SaveJob, saved: Saved) => {
    using opened = indexes.open(order.index);
    const { version, root } = saved;
    const state = opened.index.state();
    const isRecord = state?.version === version && state.logged !== undefined;
    const last = version === order.lower ? order.last : version;
    if (!isRecord || order.last === 'index' || order.still) return;
    resting.set(order.file, { compared: comparedBy(order, last), logged: state.logged!, saved: { version, root } });
  };

  const commit = async (order: CommitJob, job: number, signal: AbortSignal): Promise<CommittedClone> => {
    const { clone, at } = order;
    // The workspace may be gone, and what its saves knew with it.
    using opened = existsSync(order.index) ? indexes.open(order.index) : undefined;
    const repository = await repositories.at(order.repository);
    const lower = await versionOf(repository, order.lower, signal);
    mkdirSync(at, { recursive: true, mode: 0o700 });
    try {
      const upper = bytesOf(await mountClone({ clone, at }));
      const make = async (known: UpperOptions['known']) => {
        const base = baseTree(repository, lower.root, signal);
        const changes = upperChanges({ upper, base, ...(known && { known }), signal });
        const commit = { ...commitOf(repository, order, job), base: lower, changes, signal };
        const { version, read } = await commitChanges(commit);
        return { version: version.id, filesRead: read.files, bytesRead: read.bytes };
      };
      if (opened === undefined) return await make(undefined);
      try {
        return await make((seen) => opened.index.known(seen));
      } catch (error) {
        // What the index knows of may have been collected since.
        if (!(error instanceof CorruptError) || error.facts.chunk === undefined) throw error;
        return await make(undefined);
      }
    } finally {
      await unmountAndRemove(at);
    }
  };

  const run = async (job: number, order: SaveJob | CommitJob): Promise<void> => {
    const stopping = new AbortController();
    const kept = Promise.withResolvers<boolean>();
    running.set(job, { stopping, kept });
    const { signal } = stopping;
    try {
      if (order.kind === 'commit') {
        send({ job, done: await commit(order, job, signal) });
        return;
      }
      const [done, result] = await save(order, job, signal);
      send({ job, done });
      if (result === undefined) return;
      if (done.outcome !== 'created') {
        remember(order, done);
        return;
      }
      if (await kept.promise) {
        try {
          result.keep();
          remember(order, done);
        } catch (error) {
          // The version has its name; the next save goes through all.
          if (!isRefusedByDisk(error)) throw error;
        }
      }
      send({ job, kept: true });
    } catch (error) {
      send({ job, error: toThreadError(signal.aborted ? signal.reason : error) });
    } finally {
      running.delete(job);
    }
  };

  daemon.on('message', (message: SaverOrder) => {
    if ('order' in message) void run(message.job, message.order);
    else if ('forget' in message) {
      indexes.close(message.forget);
      send({ job: message.job, kept: true });
    } else if ('keep' in message) running.get(message.job)?.kept.resolve(message.keep);
    else {
      const one = running.get(message.job);
      one?.stopping.abort(fromThreadError(toThreadError(new Error('the save was given up'))));
      one?.kept.resolve(false);
    }
  });
}

/** Also by the image: another one of the same name may have a log that ends at the same place. */
function comparedBy({ repository, file, lower }: SaveJob, last: SaveJob['last']): string {
  return [repository, identityOf(file), lower, last].join(' ');
}

/** What a workspace was saved as last, if that is still stored: it only tells what need not be stored again. */
async function lastOf(
  index: SaveIndex,
  lower: Version,
  last: SaveJob['last'],
  read: (id: Digest) => Promise<Version>,
): Promise<Version | undefined> {
  const state = index.state();
  const known = state?.lower === lower.root ? state.version : undefined;
  const id = last === 'index' ? known : last;
  if (id === undefined || id === lower.id) return undefined;
  try {
    return await read(id);
  } catch (error) {
    if (error instanceof NotFoundError && last === 'index') return undefined;
    throw error;
  }
}
