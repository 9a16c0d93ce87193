import { randomUUID } from 'node:crypto';
import { UnavailableError } from '../errors.ts';
import type { Repository } from '../repository.ts';

/** Written to learn the store's time; its bytes mean nothing. */
export const GC_CLOCK = 'gc/clock';

/** The time now by the store's clock, which dates its objects, in milliseconds since 1970. */
export async function storeTime({ bucket }: Repository, signal?: AbortSignal): Promise<number> {
  await bucket.put(GC_CLOCK, Buffer.from(randomUUID()), { signal });
  const info = await bucket.head(GC_CLOCK, signal);
  if (info !== undefined) return info.modified.getTime();
  throw new UnavailableError(`${GC_CLOCK} in ${bucket.name} went while it was read; try again`, {
    facts: { key: GC_CLOCK },
  });
}
