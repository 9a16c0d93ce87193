import { readFileSync, rmSync } from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import { writeFileAtomic } from '../system/atomic.ts';

/** What a workspace's image is the change to. Beside the image, in the cache: it outlives the mount and the machine's restart. */
export interface WorkspaceRecord {
  /** The repository's id. */
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** The last snapshot: the parent of the next. */
  readonly snapshot?: Digest;
}

export function readWorkspaceRecord(file: string): WorkspaceRecord | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as WorkspaceRecord;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

export async function writeWorkspaceRecord(file: string, record: WorkspaceRecord): Promise<void> {
  await writeFileAtomic(file, `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

/** The image first: a record without an image describes an empty workspace. */
export function removeWorkspace({ file, record }: { readonly file: string; readonly record: string }): void {
  rmSync(file, { force: true });
  rmSync(record, { force: true });
}
