import { randomUUID } from 'node:crypto';
import { ConflictError, InvalidError } from '../errors.ts';
import type { Bucket } from './bucket.ts';

/** What the proofs write begins so, and is removed after them. */
export const PROBES = 'probe/';

/** How many writers race in each proof. */
const RACERS = 2;

/**
 * Tries out that of racing conditional writes exactly one succeeds, once for "only if absent" and once for "only if unchanged",
 * and that a stale one fails afterwards. An InvalidError where the store does not keep that: branches on it would lose versions.
 */
export async function proveConditionalWrites(bucket: Bucket): Promise<void> {
  const key = PROBES + randomUUID();
  const missing = `${key}-missing`;
  try {
    const first = await race(bucket, key, 'create', 'absent');
    const second = await race(bucket, key, 'replace', { etag: first });
    if (await succeeds(bucket.put(key, Buffer.from('stale'), { condition: { etag: first } })))
      throw refusal(bucket, 'a write that required an old ETag replaced a newer object');
    if (await succeeds(bucket.put(key, Buffer.from('late'), { condition: 'absent' })))
      throw refusal(bucket, 'a write that required no object replaced one');
    if (await succeeds(bucket.put(missing, Buffer.from('none'), { condition: { etag: second } })))
      throw refusal(bucket, 'a write that required an ETag made an object where there was none');
    const found = await bucket.head(key);
    if (found?.etag !== second) throw refusal(bucket, 'an object does not have the ETag that its write gave');
  } finally {
    await bucket.delete(key);
    await bucket.delete(missing);
  }
}

async function race(
  bucket: Bucket,
  key: string,
  what: string,
  condition: 'absent' | { readonly etag: string },
): Promise<string> {
  const writes = Array.from({ length: RACERS }, (_, i) =>
    bucket.put(key, Buffer.from(`${what} ${i}`), { condition }).catch((error: unknown) => {
      if (error instanceof ConflictError) return undefined;
      throw error;
    }),
  );
  const won = (await Promise.all(writes)).filter((etag) => etag !== undefined);
  if (won.length === 1) return won[0]!;
  throw refusal(bucket, `of ${RACERS} racing writes that ${what} one object, ${won.length} succeeded`);
}

async function succeeds(write: Promise<string>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (error instanceof ConflictError) return false;
    throw error;
  }
}

function refusal(bucket: Bucket, reason: string): InvalidError {
  return new InvalidError(`${bucket.name} cannot hold a repository: it does not keep conditional writes (${reason})`, {
    facts: { bucket: bucket.name, reason },
  });
}
