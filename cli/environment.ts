import { join, resolve } from 'node:path';
import { formatS3Location, isS3Location, parseS3Location } from '../dataset/bucket/s3/location.ts';

/** What the environment and the machine say, read once and passed in. */
export interface Environment {
  /** Where datasets are kept: an absolute path (a daemon works elsewhere) or an `s3://` URL, both in the one way to write them. */
  readonly repository: string;
  /** The node's cache directory, absolute. */
  readonly cache: string;
  /** The node's sockets and state, absolute. */
  readonly runtime: string;
  /** Who makes versions. */
  readonly author: string;
  /** What the cluster calls this node. */
  readonly node: string;
  /** The CSI socket that the daemons listen on. */
  readonly csiEndpoint: string | undefined;
}

/** The machine's part of it. */
export interface Machine {
  readonly uid: number;
  readonly user: string;
  readonly host: string;
  readonly home: string;
  readonly temporary: string;
}

/**
 * Joins the environment with defaults. Root's are the system's directories, which the node's service shares with whoever runs
 * `larder mount`; a user's follow the XDG base directories.
 * @param repository what `--repository` says, which wins
 */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  machine: Machine,
  repository?: string,
): Environment {
  const root = machine.uid === 0;
  const data = env.XDG_DATA_HOME || (root ? '/var/lib' : join(machine.home, '.local', 'share'));
  return {
    repository: absolute(repository || env.LARDER_REPOSITORY || join(data, 'larder', 'repository')),
    // Workspaces not yet saved live in the cache's directory: for root, not where a cleaner of caches may reach.
    cache: resolve(
      env.LARDER_CACHE ||
        (root ? '/var/lib/larder/cache' : join(env.XDG_CACHE_HOME || join(machine.home, '.cache'), 'larder')),
    ),
    runtime: resolve(
      env.LARDER_RUNTIME ||
        (root
          ? '/run/larder'
          : env.XDG_RUNTIME_DIR
            ? join(env.XDG_RUNTIME_DIR, 'larder')
            : join(machine.temporary, `larder-${machine.uid}`)),
    ),
    author: env.LARDER_AUTHOR || `${machine.user}@${machine.host}`,
    node: env.LARDER_NODE || machine.host,
    csiEndpoint: env.CSI_ENDPOINT || undefined,
  };
}

function absolute(location: string): string {
  if (isS3Location(location)) return formatS3Location(parseS3Location(location));
  // A scheme that is not known is told when the repository is opened.
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(location) ? location : resolve(location);
}
