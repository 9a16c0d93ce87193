import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import { removeSaveIndex } from '../mount/save/index-files.ts';
import { writeFileAtomic } from '../system/atomic.ts';
import { createSerial } from './serial.ts';

/** What a workspace's image is the change to. Beside the image, in the cache: it outlives the mount and the machine's restart. */
export interface WorkspaceRecord {
  /** The repository's id. */
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** The last snapshot: the parent of the next. */
  readonly snapshot?: Digest;
  /** It ends with its pod: where it is not staged, nobody comes for it. */
  readonly ephemeral?: boolean;
  /** Of a workspace that has a record in the repository. */
  readonly lease?: WorkspaceLease;
}

export interface WorkspaceLease {
  /** The volume's id: its record's. */
  readonly volume: string;
  /** What the volume was created under. */
  readonly name: string;
  /** The repository's location. */
  readonly location: string;
  /** The generation that the image is of; 0 where it is of none yet. */
  readonly generation: number;
  /**
   * - `taking`: the volume's record may say that this node has the workspace, in whatever generation.
   * - `held`: it does, or did; the image may have changes that are stored nowhere else.
   * - `fenced`: another has it, or it was deleted; the image may have changes that are stored nowhere else.
   * - `released`: whatever the image has was saved, and the workspace was released.
   */
  readonly state: 'taking' | 'held' | 'fenced' | 'released';
  /** What of a fenced workspace was set aside last. */
  readonly aside?: { readonly version: Digest /** Absent until it is made. */; readonly branch?: string };
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
  await serial(file, () => write(file, record));
}

/** Changes what is recorded, if anything is: members that `change` does not know stay. Changes of one record come one after the other. */
export async function changeWorkspaceRecord(
  file: string,
  change: (record: WorkspaceRecord) => WorkspaceRecord,
): Promise<void> {
  await serial(file, async () => {
    const before = readWorkspaceRecord(file);
    if (before !== undefined) await write(file, change(before));
  });
}

const serial = createSerial();

async function write(file: string, record: WorkspaceRecord): Promise<void> {
  await writeFileAtomic(file, `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

interface Files {
  readonly file: string;
  readonly record: string;
  readonly saves: string;
}

/** The image first: a record without an image describes an empty workspace. */
export async function removeWorkspace(place: Files): Promise<void> {
  await removeImage(place);
  await rm(place.record, { force: true });
}

/** The image, and what saves know of it. A large image takes some disks seconds. */
export async function removeImage({ file, saves }: Pick<Files, 'file' | 'saves'>): Promise<void> {
  await rm(file, { force: true });
  await removeSaveIndex(saves);
}
