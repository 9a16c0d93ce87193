import type { Digest } from '../dataset/digest.ts';
import { ConflictError } from '../dataset/errors.ts';

/**
 * What one node does with volumes, apart from the protocol that asks for it. Every call may be repeated: repeated with the same
 * arguments it succeeds and changes nothing, also after a crash between two of its steps. Calls for one volume never overlap:
 * whoever calls holds the volume's lock.
 */
export interface NodeService {
  /**
   * Makes the volume ready at `stagingPath`: a mount point when the promise resolves.
   * Errors: ConflictError where the path has another volume, or the volume is staged with other properties.
   */
  stage(request: StageRequest): Promise<void>;

  /**
   * Undoes `stage`; that nothing is staged there is no error. A workspace's changes are kept.
   * Errors: InUseError while the volume is published.
   */
  unstage(volume: string, stagingPath: string): Promise<void>;

  /**
   * Binds the staged volume to `targetPath`, which is made where it is not there.
   * Errors: NotFoundError where the volume is not staged at `stagingPath`; ConflictError where the target has it with another
   * `readOnly`, or has something else; InUseError where `exclusive` and it is published at another target, or was published
   * there as `exclusive`.
   */
  publish(request: PublishRequest): Promise<void>;

  /** Undoes `publish` and removes `targetPath`; that it is not published there is no error. */
  unpublish(volume: string, targetPath: string): Promise<void>;

  /**
   * How full the volume is, as `statfs` at one of its paths tells.
   * Errors: NotFoundError where the volume is neither staged nor published at `path`.
   */
  stats(volume: string, path: string): Promise<VolumeStats>;

  /**
   * Removes what this node keeps of a volume that is being deleted, a workspace's changes above all; that it keeps nothing is no
   * error.
   * Errors: InUseError while it is staged here.
   */
  discard(volume: string): Promise<void>;
}

/** `pinned`: read-only, one version. `workspace`: writable, copy-on-write on a version. */
export type VolumeKind = 'pinned' | 'workspace';

export interface StageRequest {
  /** The volume's id. */
  readonly volume: string;
  readonly dataset: string;
  readonly version: Digest;
  readonly kind: VolumeKind;
  /** A workspace's room for changes, in bytes; absent for a pinned volume. */
  readonly capacityBytes?: number;
  /** What to fetch once it is staged, in the background: `all`, or a glob over paths; absent for nothing. */
  readonly prefetch?: string;
  /** Absolute. */
  readonly stagingPath: string;
}

export interface PublishRequest {
  readonly volume: string;
  readonly stagingPath: string;
  /** Absolute. Its parent is there, itself perhaps not. */
  readonly targetPath: string;
  readonly readOnly: boolean;
  /** One target at a time. */
  readonly exclusive?: boolean;
}

export interface VolumeStats {
  readonly bytes: Usage;
  readonly inodes: Usage;
}

export interface Usage {
  readonly total: number;
  readonly used: number;
  readonly available: number;
}

/** The volume is used in a way that excludes what was asked; it may be asked again when that use has ended. */
export class InUseError extends ConflictError {}
