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

/** @param share wraps the bucket of a repository in an object store, where neighbours are asked first */
export function createRepositories(share?: (id: string, bucket: Bucket) => Bucket): Repositories {
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
      const opening = openRepository(location).then(shared);
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
