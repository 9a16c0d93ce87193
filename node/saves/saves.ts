import type { Digest } from '../../dataset/digest.ts';
import type { CloneToCommit, CommittedClone } from './saver-protocol.ts';

/** What becomes of the changes to workspaces that have a record in a repository (docs/decisions/saves.md). */
export interface Saves {
  /**
   * Makes durable what the workspace holds when this is called, and moves its record: joins a save that has not begun yet, else another begins after the
   * one that is under way. Holds no lock of the volume while it uploads.
   * Errors: NotFoundError where this node has no such workspace; FencedError where another node has it now; else why it could not be saved now: it
   * is tried again at its time all the same.
   */
  saveNow(volume: string, options?: { readonly signal?: AbortSignal }): Promise<SaveState>;
  /** Of workspaces that are staged, or whose last changes are not saved yet. */
  stateOf(volume: string): SaveState | undefined;
  /** Looks at the volume's settings anew, and runs its next save now. */
  nudge(volume: string): void;
  /**
   * Makes a version of a clone of a workspace's image, which stays as it is, in the process that saves: at low priority, and reading nothing that an
   * earlier save has read. The version has no name. The workspace itself need not be there any more.
   */
  commitClone(
    clone: CloneToCommit,
    options?: { readonly signal?: AbortSignal; readonly onProgress?: (progress: SaveProgress) => void },
  ): Promise<CommittedClone>;
}

export interface SaveProgress {
  readonly files: number;
  readonly bytes: number;
}

export interface SaveState {
  /** Of the lease under which it is saved. */
  readonly generation: number;
  /** What the record has. */
  readonly version: Digest;
  /** When the workspace was last found to be, or made, what the record has: ISO 8601, UTC. */
  readonly savedAt?: string;
  /** How old a change may be that is not saved, in milliseconds. */
  readonly lag: number;
  /** Saves fail since then. */
  readonly failing?: { readonly since: string; readonly message: string };
  /** Another node has the workspace, or it was deleted; what is changed here is set aside, in this branch if there was anything. */
  readonly fenced?: { readonly branch?: string };
}
