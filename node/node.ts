import { mkdirSync } from 'node:fs';
import { type Cache, openCache } from '../cache/cache.ts';
import { createHydrator, type Hydrator } from '../cache/hydrate.ts';
import { type CacheIndex, openIndex } from '../cache/index.ts';
import { type KnownVersions, openKnownVersions } from '../cache/known-versions.ts';
import type { Digest } from '../dataset/digest.ts';
import { type KeptRing, openKeptRing } from '../mount/keeper-ring.ts';
import { mountAt } from '../mount/mount-table.ts';
import { type RuntimePaths, runtimePaths } from './paths.ts';
import { createRepositories, type Repositories } from './repositories.ts';
import { createVolumes, type Volumes } from './service.ts';
import { createStagedVersions, type StagedVersions } from './staging.ts';

/** Everything that one node's daemon holds, joined: the cache, the ring that asks it, and the volumes on both. */
export interface Node extends AsyncDisposable {
  readonly paths: RuntimePaths;
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly known: KnownVersions;
  readonly hydrator: Hydrator;
  readonly ring: KeptRing;
  readonly repositories: Repositories;
  readonly versions: StagedVersions;
  readonly volumes: Volumes;
  /** Lets go of everything; mounts stay, for the next daemon. */
  close(): Promise<void>;
}

export interface NodeOptions {
  /** LARDER_RUNTIME. */
  readonly runtime: string;
  /** LARDER_CACHE. */
  readonly cache: string;
  /** How long an open waits for its object before it ends with EIO, in milliseconds. */
  readonly deadline?: number;
  readonly onWarning: (message: string) => void;
}

export const DEFAULT_DEADLINE = 60_000;

export async function openNode(options: NodeOptions): Promise<Node> {
  const { deadline = DEFAULT_DEADLINE, onWarning } = options;
  const paths = runtimePaths(options.runtime);
  mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
  // The ring of a daemon that died is not looked into: that would wait, or fail.
  if (mountAt(paths.ring) === undefined) mkdirSync(paths.ring, { recursive: true, mode: 0o700 });
  await using stack = new AsyncDisposableStack();
  const cache = stack.use(await openCache({ directory: options.cache, onWarning }));
  const index = stack.use(openIndex(cache));
  const known = openKnownVersions(cache.layout);
  const hydrator = stack.use(createHydrator({ cache, patience: deadline }));
  const repositories = stack.adopt(createRepositories(), (opened) => opened.close());
  const resolve = async (id: string, signal: AbortSignal) => {
    const outcome = await hydrator.hydrate(id as Digest, { signal });
    if (outcome === 'ready') cache.ensureLate(id as Digest);
    return outcome;
  };
  const onFailure = (id: string, error: unknown) => onWarning(`object ${id} did not come: ${(error as Error).message}`);
  const ring = await openKeptRing({
    target: paths.ring,
    socket: paths.keeperSocket,
    resolve,
    deadline,
    onFailure,
    onEvent: onWarning,
  });
  const versions = createStagedVersions({ cache, hydrator, known, paths });
  const volumes = createVolumes({ cache, versions, paths, repositories });
  // A ring without mounts on it is of no use to the next daemon.
  stack.defer(() => (volumes.records.all().length === 0 ? ring.remove() : ring.leave()));
  await volumes.recover(onWarning);
  if (ring.how === 'replaced') heal(versions, hydrator, onWarning);
  const held = stack.move();
  const close = () => held.disposeAsync();
  return {
    paths,
    cache,
    index,
    known,
    hydrator,
    ring,
    repositories,
    versions,
    volumes,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * Mounts of an earlier daemon that no keeper held cannot ring any more: what they lack is brought before anyone asks. Until it
 * is there, opening it fails.
 */
function heal(versions: StagedVersions, hydrator: Hydrator, onWarning: (message: string) => void): void {
  for (const source of versions.sources()) {
    onWarning(
      `no keeper had the ring: bringing all of version ${source.version.slice(0, 12)}, whose mounts cannot ask`,
    );
    hydrator.prefetch(source).catch((error) => {
      onWarning(`version ${source.version.slice(0, 12)} is not whole: ${(error as Error).message}`);
    });
  }
}
