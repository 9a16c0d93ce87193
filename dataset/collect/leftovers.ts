import type { Repository } from '../repository.ts';
import { CONDEMNED } from './lists.ts';

/**
 * Removes lists of collections that came to nothing. To be called while nothing is condemned.
 * @param before only what was written before this, by the store's clock
 */
export async function removeLeftovers({ bucket }: Repository, before: number, signal?: AbortSignal): Promise<void> {
  for await (const { key, modified } of bucket.list(CONDEMNED, { signal }))
    if (modified.getTime() < before) await bucket.delete(key, { signal });
}
