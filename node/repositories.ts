import { openRepository, type Repository } from '../dataset/repository.ts';
import { closeSources } from '../dataset/source/sources.ts';

/** Repositories by location, each opened once for as long as the daemon runs. */
export interface Repositories {
  at(location: string): Promise<Repository>;
  close(): Promise<void>;
}

export function createRepositories(): Repositories {
  const open = new Map<string, Promise<Repository>>();
  return {
    at(location) {
      const known = open.get(location);
      if (known !== undefined) return known;
      const opening = openRepository(location);
      open.set(location, opening);
      opening.catch(() => open.delete(location));
      return opening;
    },
    async close() {
      const opened = await Promise.allSettled(open.values());
      open.clear();
      for (const result of opened) {
        if (result.status !== 'fulfilled') continue;
        await closeSources(result.value);
        await result.value.bucket.close();
      }
    },
  };
}
