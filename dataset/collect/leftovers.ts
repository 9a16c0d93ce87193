import { PROBES } from '../bucket/prove-conditions.ts';
import type { Repository } from '../repository.ts';
import { CONDEMNED } from './lists.ts';

/**
 * Removes what crashes left beside the data: lists of collections that came to nothing, and what `repository init` tried the store
 * with. To be called while nothing is condemned. @param before only what was written before this, by the store's clock
 */
export async function removeLeftovers({ bucket }: Repository, before: number, signal?: AbortSignal): Promise<void> {
  for (const prefix of [CONDEMNED, PROBES])
    for await (const { key, modified } of bucket.list(prefix, { signal }))
      if (modified.getTime() < before) await bucket.delete(key, { signal });
}
