import { ConflictError, UnavailableError } from './errors.ts';

/*
 * What the node's side and the controller's side both say of volumes. Neither knows the other; the node is handed a ledger
 * (node/ledger.ts) that the controller's side keeps (controller/ledger.ts).
 */

/** How a volume is served. What is absent is the node's own setting, or not done. */
export interface VolumeSettings {
  /** What a node fetches when it stages the volume: `all`, or a glob over paths. */
  readonly prefetch?: string;
  /** Whom all files and directories seem to belong to. */
  readonly uid?: number;
  readonly gid?: number;
  /** Permissions of all directories, 0 to 0o777; files have the same, and may be executed only where the dataset says so. */
  readonly mode?: number;
  /** How long an open or a read waits for bytes before it fails, in milliseconds. */
  readonly deadline?: number;
  /** How often changes are saved to the repository, in milliseconds; 0 for not before the volume is unstaged. */
  readonly autosave?: number;
  /** What a node fetches for this volume at most, in bytes a second. */
  readonly bandwidth?: number;
  /** What becomes of the content when the volume is deleted: nothing, or a branch of the dataset. */
  readonly retention: 'drop' | 'keep';
  /** Whether the reference is looked up anew each time that a node stages the volume. Of pinned volumes. */
  readonly follow?: boolean;
}

/** One installation of Larder on one node. */
export interface NodeIdentity {
  /** What the cluster calls the node. */
  readonly node: string;
  /** A UUID in the node's cache directory: it survives the daemon and the machine's restart, not the disk. */
  readonly instance: string;
}

/** Who may save to a workspace. */
export interface Holder extends NodeIdentity {
  /** ISO 8601, UTC. */
  readonly since: string;
  /** The volume is no longer staged there, and its last changes are not yet saved. */
  readonly unsaved?: boolean;
}

/** Another node holds the workspace, and gives signs of life. */
export class HeldError extends UnavailableError {
  /** Milliseconds until the holder is given up, if nothing more is heard of it. */
  readonly freshFor: number;
  readonly holder: Holder;

  constructor(volume: { readonly id: string; readonly name: string }, holder: Holder, freshFor: number) {
    const what = holder.unsaved ? 'is still saving its last changes to' : 'has';
    super(
      `node ${holder.node} ${what} volume ${JSON.stringify(volume.name)} since ${holder.since}: a workspace is on one node at a time; ` +
        `try again when it is released there, or when nothing was heard of that node for ${Math.ceil(freshFor / 1000)} s more`,
      {
        facts: {
          volume: volume.id,
          node: holder.node,
          freshFor: Math.round(freshFor),
          unsaved: holder.unsaved === true,
        },
      },
    );
    this.freshFor = freshFor;
    this.holder = holder;
  }
}

/** The workspace was taken by another node, or by this one anew, since this generation: what it has to save is to be set aside. */
export class FencedError extends ConflictError {
  /** The generation that counts now. */
  readonly generation: number;

  constructor(
    volume: {
      readonly id: string;
      readonly name: string;
      readonly generation: number;
      readonly holder?: Holder | undefined;
    },
    generation: number,
  ) {
    const { holder } = volume;
    super(
      `volume ${JSON.stringify(volume.name)} is at generation ${volume.generation}${holder === undefined ? '' : `, held by node ${holder.node} since ${holder.since}`}, ` +
        `and this is generation ${generation}: its changes are to be set aside`,
      { facts: { volume: volume.id, generation, current: volume.generation, node: holder?.node } },
    );
    this.generation = volume.generation;
  }
}

/** A volume is held in a way that excludes what was asked; it may be asked again when it is released. */
export class VolumeHeldError extends ConflictError {}
