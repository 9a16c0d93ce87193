import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { type Digest, isDigest } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import { packKey } from '../../dataset/keys.ts';

/** Of buckets that ask neighbours: what to do about a key whose object came damaged. */
const listeners = new WeakMap<Bucket, (key: string) => void>();

export function onDistrust(bucket: Bucket, listener: (key: string) => void): void {
  listeners.set(bucket, listener);
}

/**
 * A read of this bucket failed. Where that is because a pack was damaged: if a neighbour gave it, it is passed over for a while, and the
 * pack is had from the bucket itself from now on. Does nothing for a bucket without neighbours.
 */
export function distrustDamaged(bucket: Bucket, error: unknown): void {
  if (!(error instanceof CorruptError)) return;
  const { pack } = error.facts;
  if (typeof pack === 'string' && isDigest(pack)) listeners.get(bucket)?.(packKey(pack as Digest));
}
