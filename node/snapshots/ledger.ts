import type { Digest } from '../../dataset/digest.ts';

/**
 * What the record of a snapshot tells of a clone that a node keeps for it.
 *
 * - `waiting`: whoever asked for it has not said yet that this clone counts, and may still do.
 * - `wanted`: it is the snapshot, and its content is to be made durable.
 * - `unwanted`: the snapshot is ready, or was deleted, or another clone counts.
 */
export type CloneStanding =
  | { readonly standing: 'waiting' | 'unwanted' }
  | { readonly standing: 'wanted'; readonly version: VersionWords };

/** What the version says. */
export interface VersionWords {
  readonly author: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string>>;
}

/**
 * The records of snapshots, as a node's daemon needs them. Each call may be repeated.
 * Errors of all: UnavailableError where the repository cannot be asked.
 */
export interface SnapshotLedger {
  standing(snapshot: string, cut: string): Promise<CloneStanding>;

  /**
   * Makes a stored version the snapshot's content, and gives it the names that were asked for: what cannot be done of that, the record tells.
   * Nothing where the clone does not count any more.
   */
  ready(snapshot: string, cut: string, version: Digest): Promise<void>;

  /** Notes why the content is not in the repository; undefined: it is being worked at. */
  failed(snapshot: string, cut: string, failure: string | undefined): Promise<void>;
}
