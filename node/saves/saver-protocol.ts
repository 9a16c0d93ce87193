import type { Digest } from '../../dataset/digest.ts';
import type { ThreadError } from '../../dataset/threads/thread-error.ts';
import type { SaveResult } from '../../mount/save/engine.ts';

/*
 * Between the daemon and the saver, the process that reads and uploads what is saved. Each order has a number, and ends with one answer that has
 * `done` or `error`. A save whose version is new waits then until it hears whether the version has its name.
 */

/** Of a version that is to be made. */
export interface VersionToMake {
  /** The repository's location. */
  readonly repository: string;
  readonly dataset: string;
  /** The version below the workspace. */
  readonly lower: Digest;
  readonly parents: readonly Digest[];
  readonly author: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string>>;
}

/** A clone of a workspace's image, as `cloneImage` and `cloneTogether` (mount/snapshot.ts) make it. */
export interface CloneToCommit extends VersionToMake {
  readonly volume: string;
  /** The clone's file. */
  readonly clone: string;
}

export interface CommittedClone {
  readonly version: Digest;
  readonly filesRead: number;
  readonly bytesRead: number;
}

export interface SaveJob extends VersionToMake {
  readonly kind: 'save';
  /** The workspace's image. */
  readonly file: string;
  /** Where it is mounted. */
  readonly at: string;
  /** Of what its saves know of it. */
  readonly index: string;
  /** What it was saved as last; `index` for what the index says; absent where it never was. */
  readonly last?: Digest | 'index';
  /** Nobody can write to it. */
  readonly still: boolean;
}

export interface CommitJob extends Omit<CloneToCommit, 'volume'> {
  readonly kind: 'commit';
  readonly index: string;
  /** Where to mount it. */
  readonly at: string;
}

export interface Saved extends Omit<SaveResult, 'version' | 'keep'> {
  readonly version: Digest;
  readonly root: Digest;
  /** What the saver took of the CPU meanwhile, for this and what it did beside. */
  readonly cpuMilliseconds: number;
}

export type SaverOrder =
  | { readonly job: number; readonly order: SaveJob | CommitJob }
  | { readonly job: number; readonly stop: true }
  /** Whether the version of a save has its name. */
  | { readonly job: number; readonly keep: boolean }
  /** To let go of an index, which is going to be moved or deleted. */
  | { readonly job: number; readonly forget: string };

export type SaverAnswer =
  | { readonly job: number; readonly progress: { readonly files: number; readonly bytes: number } }
  | { readonly job: number; readonly done: Saved | CommittedClone }
  | { readonly job: number; readonly error: ThreadError }
  /** What was ordered after `done`, or to be forgotten, is. */
  | { readonly job: number; readonly kept: true };
