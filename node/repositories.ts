import type { Access } from '../dataset/bucket/at.ts';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import { openRepository, type Repository } from '../dataset/repository.ts';
import { closeSources } from '../dataset/source/sources.ts';

/** Repositories by location, each opened once for as long as the daemon runs. */
export interface Repositories {
  at(location: string): Promise<Repository>;
  /** Those that are open now. */
  opened(): readonly Repository[];
  close(): Promise<void>;
}

export interface RepositoriesOptions {
  readonly access?: Access;
  /** Wraps the bucket of a repository in an object store, where neighbours are asked first. */
  readonly share?: ((id: string, bucket: Bucket) => Bucket) | undefined;
}

/** A request that stands still is given up after a part of the deadline, which leaves time for others; in milliseconds. */
const STALL_PART = 1 / 4;
const LEAST_STALL = 1_000;
const MOST_STALL = 10_000;

/**
 * How a node speaks to stores: a connection that has gone silent must not use up the time of who waits.
 * @param deadline of an open that waits, in milliseconds
 */
export function accessWithin(deadline: number): Access {
  return { stall: Math.min(MOST_STALL, Math.max(LEAST_STALL, deadline * STALL_PART)) };
}

export function createRepositories({ access, share }: RepositoriesOptions = {}): Repositories {
  const open = new Map<string, Promise<Repository>>();
  const ready = new Map<string, Repository>();
  const shared = (repository: Repository): Repository =>
    share === undefined || repository.location.startsWith('/')
      ? repository
      : { ...repository, bucket: share(repository.id, repository.bucket) };
  return {
    at(location) {
      const known = open.get(location);
      if (known !== undefined) return known;
      const opening = openRepository(location, access).then(shared);
      open.set(location, opening);
      opening.then(
        (repository) => open.has(location) && ready.set(location, repository),
        () => open.delete(location),
      );
      return opening;
    },
    opened: () => [...ready.values()],
    async close() {
      const opened = await Promise.allSettled(open.values());
      open.clear();
      ready.clear();
      for (const result of opened) {
        if (result.status !== 'fulfilled') continue;
        await closeSources(result.value);
        await result.value.bucket.close();
      }
    },
  };
}
