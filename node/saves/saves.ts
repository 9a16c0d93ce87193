import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cache } from '../../cache/cache.ts';
import type { Digest } from '../../dataset/digest.ts';
import { isErrno, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { indexFiles } from '../../mount/save/index-files.ts';
import { cloneNames } from '../../mount/snapshot.ts';
import { unmountAndRemove } from '../../mount/unmount.ts';
import { syncDirectory } from '../../system/atomic.ts';
import type { Logger } from '../log.ts';
import type { StagedRecord, StagedRecords } from '../records.ts';
import type { Repositories } from '../repositories.ts';
import type { Serial } from '../serial.ts';
import { InUseError } from '../service-types.ts';
import type { WorkspacePlace } from '../volumes/workspace.ts';
import {
  readWorkspaceRecord,
  removeImage,
  removeWorkspace,
  type WorkspaceRecord,
  writeWorkspaceRecord,
} from '../workspace-record.ts';
import { createMemberships, type Membership, type NodeFacts, type Registry } from './leases.ts';
import { createResting } from './resting.ts';
import { createSaver } from './saver.ts';
import type { CloneToCommit, CommittedClone } from './saver-protocol.ts';
import { keptWorkspaces, sweepOften } from './sweep.ts';
import { WorkspaceSaves } from './workspace-saves.ts';

/** What becomes of the changes to workspaces that have a record in a repository (docs/decisions/saves.md). */
export interface Saves {
  /**
   * Makes durable what the workspace holds when this is called, and moves its record: joins a save that has not begun yet, else another begins after the
   * one that is under way. Holds no lock of the volume while it uploads.
   * Errors: NotFoundError where this node has no such workspace; FencedError where another node has it now; else why it could not be saved now: it
   * is tried again at its time all the same.
   */
  saveNow(volume: string, options?: { readonly signal?: AbortSignal }): Promise<SaveState>;
  /** Of workspaces that are staged, or whose last changes are not saved yet. */
  stateOf(volume: string): SaveState | undefined;
  /** Looks at the volume's settings anew, and runs its next save now. */
  nudge(volume: string): void;
  /**
   * Makes a version of a clone of a workspace's image, which stays as it is, in the process that saves: at low priority, and reading nothing that an
   * earlier save has read. The version has no name. The workspace itself need not be there any more.
   */
  commitClone(
    clone: CloneToCommit,
    options?: { readonly signal?: AbortSignal; readonly onProgress?: (progress: SaveProgress) => void },
  ): Promise<CommittedClone>;
}

export interface SaveProgress {
  readonly files: number;
  readonly bytes: number;
}

export interface SaveState {
  /** Of the lease under which it is saved. */
  readonly generation: number;
  /** What the record has. */
  readonly version: Digest;
  /** When the workspace was last found to be, or made, what the record has: ISO 8601, UTC. */
  readonly savedAt?: string;
  /** How old a change may be that is not saved, in milliseconds. */
  readonly lag: number;
  /** Saves fail since then. */
  readonly failing?: { readonly since: string; readonly message: string };
  /** Another node has the workspace, or it was deleted; what is changed here is set aside, in this branch if there was anything. */
  readonly fenced?: { readonly branch?: string };
}

/** What the service of volumes needs besides. */
export interface SavesKeeper extends Saves, AsyncDisposable {
  /** Whether this daemon has to do with volumes that have records. */
  readonly isMember: boolean;
  /** This node's part in the volumes of a repository; the first time, signs of life begin. */
  membership(location: string): Promise<Membership>;
  /** Begins to save a workspace that is staged; one without a record is not saved. */
  begin(record: StagedRecord): void;
  /** Ends what goes on of a workspace that is not staged, so that it can be. */
  interrupt(volume: string): Promise<void>;
  /** Whether there is anything of a workspace to be ended: it has a record in a repository, and this node has not released it. */
  isOpen(volume: string): boolean;
  /**
   * Saves a workspace whose overlay is unmounted for the last time, releases it, and unmounts it. Where that takes long or cannot be done now, it goes on in
   * the background, and others are told that it does.
   * @param when `soon`: it is not waited for long
   */
  end(volume: string, when: 'now' | 'soon'): Promise<void>;
  /** Goes on with all workspaces in the cache that are not staged and not released; clears away those that are of no use, from time to time. */
  adopt(): void;
  /** Moves the image of an older generation out of the way, and sets aside in the background what it has that is not saved. What is recorded of it stays. */
  makeWay(volume: string, record: WorkspaceRecord): Promise<void>;
  /** Removes what is kept of a workspace that is not staged. Errors: InUseError while its last changes are being saved. */
  discard(volume: string): Promise<void>;
  stats(): SaveStats;
}

export interface SaveStats {
  /** Since the daemon started, by how they ended: those of `SaveResult`, `aside` and `failed`. */
  readonly saves: Readonly<Record<string, number>>;
  /** Time that they took, in milliseconds. */
  readonly milliseconds: number;
  /** Workspaces with a record that are staged; of all that are not over: those that cannot be saved now, those of others, those that are unstaged. */
  readonly staged: number;
  readonly failing: number;
  readonly fenced: number;
  readonly unsaved: number;
  /** The oldest change that may not be saved, in milliseconds. */
  readonly lag: number;
  readonly saverPid?: number;
}

export interface SavesParts {
  /** Absent where this daemon has nothing to do with volumes' records. */
  readonly registry?: Registry;
  readonly cache: Cache;
  readonly repositories: Repositories;
  readonly records: StagedRecords;
  readonly lock: Serial;
  readonly workspaceOf: (volume: string) => WorkspacePlace;
  readonly log: Logger;
  readonly facts?: () => Promise<NodeFacts>;
  /** How often a workspace is saved that says nothing itself, in milliseconds; 0: when it is unstaged. */
  readonly autosave?: number;
  /** How long an unstage may take, in milliseconds, before the rest is done in the background. */
  readonly patience?: number;
}

export const DEFAULT_AUTOSAVE = 10_000;
const DEFAULT_PATIENCE = 20_000;
/** How long a stage that failed waits for it, in milliseconds. */
const SOON = 3_000;
/** How long it may take to tell others of it, in milliseconds. */
const TELL_PATIENCE = 5_000;
export function createSaves(parts: SavesParts): SavesKeeper {
  const { registry, cache, repositories, records, lock, workspaceOf, log } = parts;
  const { autosave = DEFAULT_AUTOSAVE, patience = DEFAULT_PATIENCE, facts = async () => ({}) } = parts;
  const { workspaces } = cache.layout;
  const saver = createSaver({ lock: join(cache.layout.directory, 'saver.lock'), temporary: cache.layout.incoming });
  const memberships =
    registry && createMemberships({ registry, repositories, cache: cache.layout.directory, facts, log });
  const resting = createResting(2);
  const all = new Map<string, WorkspaceSaves>();
  const counts: Record<string, number> = {};
  const end = new AbortController();
  let milliseconds = 0;

  /** @param key the volume's id; with `@` and a generation behind it, an image of it that was moved aside */
  const open = (key: string, volume: string): WorkspaceSaves | undefined => {
    if (memberships === undefined || end.signal.aborted) return undefined;
    const known = all.get(key);
    if (known !== undefined) return known;
    const one = new WorkspaceSaves({
      volume,
      place: workspaceOf(key),
      isMain: key === volume,
      memberships,
      saver,
      resting,
      log,
      interval: () => records.get(volume)?.autosave ?? autosave,
      onSave(outcome, took) {
        counts[outcome] = (counts[outcome] ?? 0) + 1;
        milliseconds += took;
      },
    });
    all.set(key, one);
    return one;
  };

  const close = (key: string, volume: string) => {
    const one = open(key, volume);
    if (one === undefined || one.isClosing) return one?.close();
    const closing = one.close();
    closing.over.then(
      () => all.get(key) === one && all.delete(key),
      // It was interrupted, by whoever goes on with it.
      () => {},
    );
    return closing;
  };

  const kept = () => keptWorkspaces({ workspaces, workspaceOf, log });

  const interrupt = async (key: string): Promise<void> => {
    const one = all.get(key);
    if (one === undefined) return;
    await one.abandon(`volume ${one.volume} is staged again`);
    all.delete(key);
  };

  const told = async (one: WorkspaceSaves): Promise<void> => {
    try {
      await Promise.race([one.releaseUnsaved(), late(TELL_PATIENCE)]);
    } catch (error) {
      // As long as this node lives, others wait all the same.
      log.debug(`that workspace ${one.volume} is not saved yet could not be told: ${(error as Error).message}`);
    }
  };

  return {
    isMember: registry !== undefined,

    async membership(location) {
      if (memberships === undefined) throw new UnavailableError('this daemon was started without volumes of a cluster');
      return await memberships.at(location);
    },

    async saveNow(volume, { signal } = {}) {
      const one = all.get(volume);
      if (one === undefined)
        throw new NotFoundError(`this node has no changes to a volume ${volume}`, { facts: { volume } });
      return await one.saveNow(signal);
    },

    stateOf: (volume) => all.get(volume)?.state(),

    nudge: (volume) => all.get(volume)?.nudge(),

    commitClone({ volume, ...clone }, options) {
      const place = workspaceOf(volume);
      return saver.commit({ ...clone, index: place.saves, at: cloneNames(place).at }, options);
    },

    begin({ volume }) {
      if (readWorkspaceRecord(workspaceOf(volume).record)?.lease === undefined) return;
      open(volume, volume)?.begin();
    },

    interrupt,

    isOpen(volume) {
      const { lease } = readWorkspaceRecord(workspaceOf(volume).record) ?? {};
      return memberships !== undefined && lease !== undefined && lease.state !== 'released';
    },

    async end(volume, when) {
      const closing = close(volume, volume);
      const one = all.get(volume);
      if (closing === undefined || one === undefined) return;
      const how = await Promise.race([
        closing.first,
        sleep(when === 'soon' ? Math.min(SOON, patience) : patience, 'late' as const, { ref: false }),
      ]);
      if (how === 'saved') return;
      const why = {
        busy: 'somebody still has files of it open for writing',
        failed: one.state()?.failing?.message ?? 'it cannot be saved now',
        late: 'there is much to be saved',
      }[how];
      const text = `volume ${volume} is unstaged, and its last changes are not saved yet (${why}): it goes on, and other nodes wait for it`;
      log.warn(text, { volume });
      await told(one);
    },

    adopt() {
      if (memberships === undefined) return;
      for (const [key, { lease }] of kept()) {
        if (records.get(key) !== undefined || lease!.state === 'released') continue;
        const { volume } = lease!;
        void lock(volume, async () => {
          if (records.get(key) === undefined) close(key, volume);
        });
      }
      const isUsed = (key: string) => records.get(key) !== undefined || all.has(key);
      sweepOften({ kept, isUsed, memberships, saver, lock, workspaceOf, log }, end.signal).catch((error) => {
        if (!end.signal.aborted) throw error;
      });
    },

    async makeWay(volume, record) {
      const { lease } = record;
      const from = workspaceOf(volume);
      await unmountAndRemove(from.at);
      if (lease?.state === 'released') {
        await saver.forget(from.saves);
        await removeImage(from);
        return;
      }
      const key = `${volume}@${lease?.generation ?? 0}`;
      const to = workspaceOf(key);
      // One that was cut short before it had the image.
      await interrupt(key);
      await saver.forget(from.saves);
      const { location } = readWorkspaceRecord(from.record)!.lease!;
      const old = { volume, name: volume, location, generation: 0, ...lease, state: 'fenced' as const };
      await writeWorkspaceRecord(to.record, { ...record, lease: old });
      await rename(from.file, to.file);
      for (const [at, file] of indexFiles(from.saves).entries()) await renameIfThere(file, indexFiles(to.saves)[at]!);
      await syncDirectory(workspaces);
      close(key, volume);
    },

    async discard(volume) {
      if (all.has(volume))
        throw new InUseError(`the last changes of volume ${volume} are still being saved: try again when they are`, {
          facts: { volume },
        });
      await saver.forget(workspaceOf(volume).saves);
      await removeWorkspace(workspaceOf(volume));
    },

    stats() {
      const states = [...all.values()].map((one) => ({ ...one.state(), isClosing: one.isClosing }));
      const pid = saver.pid();
      return {
        saves: { ...counts },
        milliseconds,
        staged: states.filter(({ isClosing }) => !isClosing).length,
        failing: states.filter(({ failing }) => failing !== undefined).length,
        fenced: states.filter(({ fenced }) => fenced !== undefined).length,
        unsaved: states.filter(({ isClosing }) => isClosing).length,
        lag: Math.max(0, ...states.map(({ lag = 0 }) => lag)),
        ...(pid !== undefined && { saverPid: pid }),
      };
    },

    async [Symbol.asyncDispose]() {
      end.abort(new UnavailableError('the daemon ends'));
      const held = new Set([...all.values()].map(({ location }) => location));
      await Promise.all([...all.values()].map((one) => one.abandon('the daemon ends')));
      all.clear();
      await saver[Symbol.asyncDispose]();
      await memberships?.close((location) => held.has(location));
    },
  };
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

async function late(milliseconds: number): Promise<never> {
  await sleep(milliseconds, undefined, { ref: false });
  throw new UnavailableError(`no answer within ${milliseconds / 1000} s`);
}
