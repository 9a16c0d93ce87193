import { CorruptError } from '../errors.ts';
import type { Bucket, GetOptions } from './bucket.ts';

export interface WholeObject {
  readonly bytes: Buffer;
  readonly etag: string;
}

/** An object's bytes at once; a CorruptError where there are more than `limit`. For objects that are small by their nature. */
export async function readObject(
  bucket: Bucket,
  key: string,
  limit: number,
  options?: GetOptions,
): Promise<WholeObject> {
  const { body, size, etag } = await bucket.get(key, options);
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > limit)
      throw new CorruptError(
        `${key} in ${bucket.name} has ${size} bytes, more than any such object may have (${limit})`,
        {
          facts: { key, size, limit },
        },
      );
    parts.push(part);
  }
  return { bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts, length), etag };
}
