import type { Digest } from '../dataset/digest.ts';
import { ConflictError } from '../dataset/errors.ts';
import type { View } from '../mount/view.ts';

export type { View } from '../mount/view.ts';

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
   * Lets the staged volume have more room, online; less is not taken away.
   * @returns its room now, in bytes: of a pinned volume what it has
   * Errors: NotFoundError where the volume is neither staged nor published at `path`.
   */
  expand(volume: string, path: string, capacityBytes: number): Promise<number>;

  /**
   * How the volume does on this node.
   * Errors: NotFoundError where it is not staged here.
   */
  condition(volume: string): Promise<VolumeCondition>;

  /** What is staged of the volume here, or begins to be; undefined where nothing is. Asks nobody. */
  staged(volume: string): StagedVolume | undefined;

  /**
   * Stages and publishes a volume that begins and ends with its pod, and has no record anywhere but here. `unpublish` ends it.
   * Errors: as of `stage` and `publish`.
   */
  publishEphemeral(request: EphemeralRequest): Promise<void>;

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
  /** Whom files seem to belong to, and who may do what with them; absent for what the dataset says. */
  readonly view?: View;
  /** How long an open or a read waits for bytes before it fails, in milliseconds; absent for the node's own. */
  readonly deadline?: number;
  /** What is fetched for this volume at most, in bytes a second; absent for no limit. */
  readonly bandwidth?: number;
  /** How often a workspace's changes are saved, in milliseconds; 0 for not before it is unstaged, absent for the node's own. */
  readonly autosave?: number;
  /** Absolute. */
  readonly stagingPath: string;
}

/** What is known of a volume that is staged, without its repository. */
export interface StagedVolume {
  readonly dataset: string;
  /** What is mounted; of a workspace, what its changes are changes to. */
  readonly version: Digest;
  readonly kind: VolumeKind;
  readonly capacityBytes?: number;
  readonly view?: View;
  readonly ephemeral?: boolean;
  readonly stagingPath: string;
  /** `staging` until everything is mounted. */
  readonly state: 'staging' | 'staged';
}

/** A volume of one pod's own. */
export interface EphemeralRequest extends Omit<StageRequest, 'stagingPath'> {
  /** Absolute. Its parent is there, itself perhaps not. */
  readonly targetPath: string;
  readonly readOnly: boolean;
  readonly pod?: PodIdentity;
}

/** For whom a volume is published, as far as the cluster tells. */
export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

export interface VolumeCondition {
  /** Something that a person should look at; `message` says what it is, and what to do. */
  readonly abnormal: boolean;
  readonly message: string;
  readonly reason: ConditionReason;
}

export type ConditionReason =
  | 'healthy'
  /** Its mount is gone. */
  | 'not-mounted'
  /** Its changes could not be saved for a while. */
  | 'not-saved'
  /** Another node has the workspace now; changes made here are set aside. */
  | 'fenced'
  /** Its repository does not answer: what is cached is read on. */
  | 'unavailable';

export interface PublishRequest {
  readonly volume: string;
  readonly stagingPath: string;
  /** Absolute. Its parent is there, itself perhaps not. */
  readonly targetPath: string;
  readonly readOnly: boolean;
  /** One target at a time. */
  readonly exclusive?: boolean;
  /** The group that the pod is to find: InUseError where the volume is staged for another, or for none. */
  readonly mountGroup?: number;
  /** Who is going to use it. */
  readonly pod?: PodIdentity;
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
