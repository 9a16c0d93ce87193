import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../dataset/digest.ts';
import { LarderError, NotFoundError } from '../../dataset/errors.ts';
import { removeSaveIndex } from '../../mount/save/index-files.ts';
import { faultPoint } from '../../system/fault.ts';
import type { Logger } from '../log.ts';
import type { CommittedClone } from '../saves/saver-protocol.ts';
import type { Saves } from '../saves/saves.ts';
import { createSerial } from '../serial.ts';
import type { Volumes } from '../service.ts';
import { changeWorkspaceRecord, readWorkspaceRecord, type WorkspaceRecord } from '../workspace-record.ts';
import type { KeptClone, KeptClones } from './clones.ts';
import type { SnapshotLedger, VersionWords } from './ledger.ts';

export interface UploadParts {
  readonly clones: KeptClones;
  readonly saves: Pick<Saves, 'commitClone'>;
  /** Of the repository at this location. */
  readonly ledgerOf: (location: string) => Promise<SnapshotLedger>;
  readonly volumes: Pick<Volumes, 'lock' | 'workspaceOf'>;
  readonly log: Logger;
}

export interface Uploads extends AsyncDisposable {
  /** Sees to it that the clone becomes its snapshot's content, or goes if it is not wanted. */
  begin(clone: KeptClone): void;
  /** Clones whose content is not in the repository yet. */
  pending(): readonly KeptClone[];
}

/** Between two looks or tries, in milliseconds: first, and at most. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 30_000;
/** How long a clone stays that nobody says counts, in milliseconds: whoever asked for it says so at once, or asks again and gets another. */
const WAITING_LIMIT = 24 * 3600_000;

/** What makes clones that were cut for snapshots durable, one after the other for each volume, and tries until that is done. */
export function createUploads(parts: UploadParts): Uploads {
  const { clones, log } = parts;
  const end = new AbortController();
  const running = new Map<string, Promise<void>>();
  const serial = createSerial();

  const bring = async (clone: KeptClone): Promise<void> => {
    const about = { volume: clone.volume, snapshot: clone.snapshot };
    let told: string | undefined;
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        if (await serial(clone.volume, () => step(parts, clone, end.signal))) return;
        if (Date.now() - Date.parse(clone.created) > WAITING_LIMIT) {
          await clones.remove(clone);
          return;
        }
      } catch (error) {
        if (end.signal.aborted) return;
        const { message } = error as Error;
        const text = `snapshot ${clone.snapshot} of volume ${clone.volume} is not in the repository yet, and tried again: ${message}`;
        log.warn(text, { ...about, error, repeats: `snapshot ${clone.snapshot}` });
        if (told !== message) {
          told = message;
          await tell(parts, clone, message);
        }
      }
      if (end.signal.aborted) return;
      await sleep(pause, undefined, { signal: end.signal }).catch(() => undefined);
    }
  };

  return {
    begin(clone) {
      if (running.has(clone.cut) || end.signal.aborted) return;
      const task = bring(clone).finally(() => running.delete(clone.cut));
      running.set(clone.cut, task);
    },
    pending: () => clones.all(),
    async [Symbol.asyncDispose]() {
      end.abort();
      await Promise.allSettled(running.values());
    },
  };
}

/** So that who looks at the record knows why it takes long. Where the repository is away, nobody can look. */
async function tell({ ledgerOf }: UploadParts, clone: KeptClone, failure: string): Promise<void> {
  try {
    const ledger = await ledgerOf(clone.repository);
    await ledger.failed(clone.snapshot, clone.cut, failure);
  } catch (error) {
    if (!(error instanceof LarderError)) throw error;
  }
}

/** @returns whether nothing is left to be done */
async function step(parts: UploadParts, clone: KeptClone, signal: AbortSignal): Promise<boolean> {
  signal.throwIfAborted();
  const { clones, ledgerOf, volumes, log } = parts;
  const ledger = await ledgerOf(clone.repository);
  const found = await ledger.standing(clone.snapshot, clone.cut);
  if (found.standing === 'waiting') return false;
  if (found.standing === 'wanted') {
    const { version, filesRead, bytesRead } = await commit(parts, clone, found.version, signal);
    faultPoint('snapshot.committed');
    await ledger.ready(clone.snapshot, clone.cut, version);
    const place = volumes.workspaceOf(clone.volume);
    await changeWorkspaceRecord(place.record, (record) =>
      isOf(record, clone) ? { ...record, snapshot: version } : record,
    );
    // Its workspace is gone: what was noted of the clone's files is no use to anybody.
    await volumes.lock(clone.volume, async () => {
      if (readWorkspaceRecord(place.record) === undefined) await removeSaveIndex(place.saves);
    });
    const text = `snapshot ${clone.snapshot} of volume ${clone.volume} is version ${version.slice(0, 12)}`;
    const { volume, snapshot, dataset, repository } = clone;
    log.info(text, { volume, snapshot, dataset, repository, version, filesRead, bytesRead });
  }
  await clones.remove(clone);
  faultPoint('snapshot.clone-removed');
  return true;
}

async function commit(
  { clones, saves, volumes }: UploadParts,
  clone: KeptClone,
  words: VersionWords,
  signal: AbortSignal,
): Promise<CommittedClone> {
  const { volume, repository, dataset, lower } = clone;
  const record = readWorkspaceRecord(volumes.workspaceOf(volume).record);
  const parent = (record && isOf(record, clone) && record.snapshot) || lower;
  const commitOn = (parent: Digest) =>
    saves.commitClone(
      { volume, clone: clones.fileOf(clone), repository, dataset, lower, parents: [parent], ...words },
      { signal },
    );
  try {
    return await commitOn(parent);
  } catch (error) {
    // The last snapshot was deleted, and is collected.
    if (parent === lower || !(error instanceof NotFoundError) || error.facts.version !== parent) throw error;
    return await commitOn(lower);
  }
}

/** Whether the workspace is still the one that was cloned. */
function isOf({ version, lease }: WorkspaceRecord, clone: KeptClone): boolean {
  return version === clone.lower && lease?.generation === clone.generation;
}
