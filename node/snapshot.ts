import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf } from '../dataset/byte-string.ts';
import { commitChanges } from '../dataset/commit.ts';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError } from '../dataset/errors.ts';
import { readBranch, type StoredRef, writeTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { baseTree } from '../mount/base-tree.ts';
import { cloneWorkspace, mountClone } from '../mount/snapshot.ts';
import { unmountAndRemove } from '../mount/unmount.ts';
import { upperChanges } from '../mount/upper.ts';
import type { Progress, SnapshotReply, SnapshotRequest } from './protocol.ts';
import type { StagedRecord } from './records.ts';
import type { WorkspacePlace } from './volumes/workspace.ts';
import { readWorkspaceRecord, writeWorkspaceRecord } from './workspace-record.ts';

export interface SnapshotParts {
  readonly repository: Repository;
  readonly record: StagedRecord;
  readonly workspace: WorkspacePlace;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Makes a version of a live workspace: its image is cloned while writers wait some milliseconds, and the clone is committed at
 * leisure. Errors: ConflictError where the branch is neither at the workspace's version nor at its last snapshot, or where the
 * tag names another version.
 */
export async function snapshotWorkspace(parts: SnapshotParts, request: SnapshotRequest): Promise<SnapshotReply> {
  const { repository, record, workspace, onProgress, signal } = parts;
  const { dataset } = record;
  const base = await readVersion(repository, record.version, signal);
  const kept = readWorkspaceRecord(workspace.record);
  const parent = kept?.snapshot ?? record.version;
  const head = request.branch === undefined ? undefined : await headFor(repository, record, parent, request.branch);

  const clone = `${workspace.file}.${randomBytes(6).toString('hex')}.clone`;
  const at = join(`${workspace.at}.clone`);
  try {
    const paused = await cloneWorkspace({ ...workspace, clone, signal });
    mkdirSync(at, { recursive: true, mode: 0o700 });
    const upper = await mountClone({ clone, at });
    const changes = upperChanges({ upper: bytesOf(upper), base: baseTree(repository, base.root), signal });
    const { version, read } = await commitChanges({
      repository,
      dataset,
      branch: request.branch,
      head,
      base,
      parents: [parent],
      changes,
      author: request.author,
      message: request.message,
      meta: request.meta,
      onProgress,
      signal,
    });
    await writeWorkspaceRecord(workspace.record, {
      repository: repository.id,
      dataset,
      version: record.version,
      snapshot: version.id,
    });
    if (request.tag !== undefined) await writeTag(repository, dataset, request.tag, { version: version.id });
    return {
      repository: record.repository,
      dataset,
      version: version.id,
      parent,
      pauseMilliseconds: paused.pauseMilliseconds,
      reflink: paused.method === 'reflink',
      filesRead: read.files,
      bytesRead: read.bytes,
    };
  } finally {
    await unmountAndRemove(at);
    rmSync(clone, { force: true });
  }
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
