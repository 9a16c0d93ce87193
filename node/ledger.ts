import type { SweepMark } from '../dataset/collect/guard.ts';
import type { Digest } from '../dataset/digest.ts';
import type { Holder, NodeIdentity, VolumeSettings } from '../dataset/volume-terms.ts';
import type { SnapshotLedger } from './snapshots/ledger.ts';

/** What a node needs to know of a volume's record. */
export interface LedgerVolume {
  readonly id: string;
  readonly name: string;
  readonly kind: 'pinned' | 'workspace';
  readonly dataset: string;
  /** What the volume was created from. */
  readonly base: Digest;
  /** What it has now: of a workspace, what was saved last. */
  readonly version: Digest;
  /** The version below the image of whoever holds the workspace, or held it last; absent where nobody ever did. */
  readonly lower?: Digest;
  readonly capacityBytes: number;
  readonly settings: VolumeSettings;
  /** How often the workspace was taken. */
  readonly generation: number;
  readonly holder?: Holder;
  /** When it was saved last: ISO 8601, UTC. */
  readonly savedAt?: string;
}

export interface Taken {
  readonly volume: LedgerVolume;
  /** To be given with all that is done as the holder. */
  readonly generation: number;
  /**
   * Whether the node goes on with the image that it named: nobody else had the workspace since. If not, whatever image it has of it
   * is of an older generation: what that holds unsaved is to be set aside, and the workspace begins on `volume.version`, empty.
   */
  readonly continues: boolean;
}

/** Changes that are no longer the volume's. */
export interface SetAside {
  /** The volume as it was when it was taken; it may have been deleted since. */
  readonly volume: Pick<LedgerVolume, 'id' | 'name' | 'dataset'>;
  readonly node: string;
  readonly generation: number;
  /** Their version, which is stored. */
  readonly version: Digest;
}

/** Settings, as the records of volumes have them. */
export interface SettingsLedger {
  /**
   * Of the volumes whose record has changed, what it says now. Volumes that have no record are left out.
   * @param volumes by id, with what `etag` was when each was asked for last; undefined for the first time
   */
  changed(
    volumes: ReadonlyMap<string, string | undefined>,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, { readonly settings: VolumeSettings; readonly etag: string }>>;
}

/**
 * The records of volumes, as a node's daemon needs them. Only `take` raises a generation; who holds an older one changes nothing any
 * more. Each call changes a record by compare-and-swap, and may be repeated.
 *
 * Errors of all: NotFoundError where the volume was deleted; UnavailableError where the repository cannot be asked.
 */
export interface Ledger {
  readonly settings: SettingsLedger;

  /** Records of snapshots. */
  readonly snapshots: SnapshotLedger;

  read(volume: string): Promise<LedgerVolume>;

  /**
   * Takes a workspace for a node, or finds that it has it. The node's heartbeat must have been written before.
   * @param image the lower version of the image that the node has of it already
   * Errors: HeldError where another node has it and gives signs of life; InvalidError for a pinned volume.
   */
  take(volume: string, node: NodeIdentity, options?: { readonly image?: Digest }): Promise<Taken>;

  /**
   * Makes a stored version the workspace's content.
   * @param options.since what `markSweeps` gave before the version was made
   * Errors: FencedError where the generation has moved on: the version is to be set aside.
   */
  saved(
    volume: string,
    generation: number,
    version: Digest,
    options?: { readonly since?: SweepMark },
  ): Promise<LedgerVolume>;

  /**
   * Gives the workspace up: `saved`, any node may take it; `unsaved`, this one is still saving, and others wait while it lives.
   * Errors: FencedError.
   */
  release(volume: string, generation: number, state: 'saved' | 'unsaved'): Promise<void>;

  /**
   * Keeps changes as a branch of the dataset, `aside/<volume's name>/<node>-<generation>`, and names it in the volume's record if there
   * still is one.
   * @returns the branch, which has a number at its end where that name has other content
   */
  setAside(changes: SetAside): Promise<string>;
}
