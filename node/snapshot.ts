import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError, NotFoundError } from '../dataset/errors.ts';
import { moveBranch, readBranch, type StoredRef, writeTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { findVersion, readVersion } from '../dataset/version.ts';
import { saveClone } from '../mount/save/engine.ts';
import { openSaveIndex } from '../mount/save/index.ts';
import { cloneImage, cloneNames, mountClone } from '../mount/snapshot.ts';
import { unmountAndRemove } from '../mount/unmount.ts';
import type { Progress, SnapshotReply, SnapshotRequest } from './protocol.ts';
import type { StagedRecord } from './records.ts';
import type { Saves } from './saves/saves.ts';
import type { Serial } from './serial.ts';
import { mountedAt } from './volumes/names.ts';
import type { WorkspacePlace } from './volumes/workspace.ts';
import { changeWorkspaceRecord, readWorkspaceRecord } from './workspace-record.ts';

export interface SnapshotParts {
  readonly repository: Repository;
  readonly record: StagedRecord;
  readonly workspace: WorkspacePlace;
  /** Of the volume: held while its image is cloned, and no longer. */
  readonly lock: Serial;
  /** Who saves workspaces that have a record in the repository, and alone has the index of their saves open. */
  readonly saves?: Pick<Saves, 'commitClone'> | undefined;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Makes a version of a live workspace: its image is cloned while writers go on, or wait some milliseconds, and the clone is committed at
 * leisure. One at a time for each workspace. Errors: ConflictError where the branch is neither at the workspace's version nor at its last
 * snapshot, or where the tag names another version.
 */
export async function snapshotWorkspace(parts: SnapshotParts, request: SnapshotRequest): Promise<SnapshotReply> {
  const { repository, record, workspace, lock, signal } = parts;
  const { dataset } = record;
  const kept = readWorkspaceRecord(workspace.record);
  const parent = await parentOf(repository, record.version, kept?.snapshot);
  const head = request.branch === undefined ? undefined : await headFor(repository, record, parent, request.branch);

  const { clone: own, at } = cloneNames(workspace);
  // The saver removes others' clones when it starts; one for it is called as those that are kept for snapshots, of which unknown ones are
  // removed when the daemon starts.
  const bySaver = kept?.lease === undefined ? undefined : parts.saves;
  const clone = bySaver === undefined ? own : `${own}.snap`;
  try {
    const cut = Date.now();
    const cloned = await lock(record.volume, async () => {
      if (mountedAt(workspace.at) === undefined)
        throw new NotFoundError(`${record.stagingPath} was unmounted meanwhile: mount it again`);
      return await cloneImage({ ...workspace, clone, freeze: false, signal });
    });
    const commit = bySaver === undefined ? commitHere : commitBySaver(bySaver);
    const { version, filesRead, bytesRead } = await commit(parts, request, { clone, at, cut, parent });
    if (request.branch !== undefined && head?.ref?.version !== version)
      await moveBranch(repository, dataset, request.branch, { expect: head?.ref ?? 'absent', version });
    await changeWorkspaceRecord(workspace.record, (now) =>
      now.version === record.version ? { ...now, snapshot: version } : now,
    );
    if (request.tag !== undefined) await writeTag(repository, dataset, request.tag, { version });
    return {
      repository: record.repository,
      dataset,
      version,
      parent,
      pauseMilliseconds: cloned.pauseMilliseconds,
      reflink: cloned.method === 'reflink',
      filesRead,
      bytesRead,
    };
  } finally {
    await unmountAndRemove(at);
    await rm(clone, { force: true });
  }
}

/** What a snapshot follows on: the last one, unless that was deleted and is collected. */
async function parentOf(repository: Repository, base: Digest, snapshot: Digest | undefined): Promise<Digest> {
  return snapshot !== undefined && (await findVersion(repository, snapshot)) !== undefined ? snapshot : base;
}

interface ClonedWorkspace {
  readonly clone: string;
  /** Where to mount it. */
  readonly at: string;
  /** The time of day before it was made, in milliseconds. */
  readonly cut: number;
  readonly parent: Digest;
}

interface Committed {
  readonly version: Digest;
  readonly filesRead: number;
  readonly bytesRead: number;
}

/** Reads what no earlier snapshot of the workspace has read. */
async function commitHere(
  { repository, record, workspace, onProgress, signal }: SnapshotParts,
  { author, message, meta }: SnapshotRequest,
  { clone, at, cut, parent }: ClonedWorkspace,
): Promise<Committed> {
  using index = openSaveIndex(workspace.saves);
  const lower = await readVersion(repository, record.version, signal);
  const last = parent === lower.id ? undefined : await readVersion(repository, parent, signal);
  mkdirSync(at, { mode: 0o700 });
  const upper = await mountClone({ clone, at });
  const commit = { repository, dataset: record.dataset, author, message, meta, parents: [parent], onProgress };
  const { version, filesRead, bytesRead, keep } = await saveClone({ upper, cut, lower, last, index, commit, signal });
  keep();
  return { version: version.id, filesRead, bytesRead };
}

function commitBySaver(saves: Pick<Saves, 'commitClone'>) {
  return async (
    { record, onProgress, signal }: SnapshotParts,
    { author, message, meta }: SnapshotRequest,
    { clone, parent }: ClonedWorkspace,
  ): Promise<Committed> => {
    const { volume, repository, dataset, version: lower } = record;
    const words = { author, message, ...(meta && { meta }), parents: [parent] };
    return await saves.commitClone(
      { volume, clone, repository, dataset, lower, ...words },
      { signal, onProgress: (progress) => onProgress?.({ phase: 'reading', ...progress }) },
    );
  };
}

/** The branch as it is now, if a snapshot of this workspace may follow on it. */
async function headFor(
  repository: Repository,
  { dataset, version }: StagedRecord,
  parent: Digest,
  branch: string,
): Promise<{ ref: StoredRef | undefined }> {
  const ref = await readBranch(repository, dataset, branch);
  if (ref === undefined || ref.version === version || ref.version === parent) return { ref };
  throw new ConflictError(
    `branch '${branch}' of '${dataset}' has moved to ${ref.version.slice(0, 12)} since the workspace was made on ${version.slice(0, 12)}: take the snapshot with a tag or another branch`,
    { facts: { dataset, branch, version: ref.version } },
  );
}
