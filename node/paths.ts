import { join } from 'node:path';

/** Where a node's daemon keeps its sockets, mounts and records: gone after a reboot, as the mounts are. */
export interface RuntimePaths {
  readonly directory: string;
  /** The daemon's HTTP socket. */
  readonly socket: string;
  /** The keeper's socket. */
  readonly keeperSocket: string;
  /** Where the daemon and the keeper, started by `larder mount`, write their logs. */
  readonly log: string;
  readonly keeperLog: string;
  /** The ring's mount point. */
  readonly ring: string;
  /** One mounted EROFS image a version, by its root digest. */
  readonly images: string;
  /** One mounted workspace file system a volume. */
  readonly workspaces: string;
  /** One record a staged volume. */
  readonly staged: string;
  /** Where ephemeral volumes are staged, one folder each: nobody else chooses a place. */
  readonly ephemeral: string;
}

export function runtimePaths(directory: string): RuntimePaths {
  return {
    directory,
    socket: join(directory, 'node.sock'),
    keeperSocket: join(directory, 'keeper.sock'),
    log: join(directory, 'node.log'),
    keeperLog: join(directory, 'keeper.log'),
    ring: join(directory, 'ring'),
    images: join(directory, 'images'),
    workspaces: join(directory, 'workspaces'),
    staged: join(directory, 'staged'),
    ephemeral: join(directory, 'ephemeral'),
  };
}
