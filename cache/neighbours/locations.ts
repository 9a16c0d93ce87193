import type { BucketObject, ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { abortable } from '../../system/abortable.ts';
import type { Source } from './origin.ts';

/** How old an owner's locations are at most, in milliseconds: they may be rewritten in the bucket. */
export const LOCATIONS_AGE = 60_000;

/** Kept in memory, in bytes. */
const KEPT_BYTES = 8 * 1024 * 1024;

interface Kept {
  readonly at: number;
  readonly object: Promise<{ readonly info: ObjectInfo; readonly bytes: Buffer }>;
  size: number;
}

/** Locations as they were in the bucket a short while ago: read once for all who ask in that time. */
export interface LocationsKeeper {
  get(repository: string, bucket: Source, key: string, signal: AbortSignal | undefined): Promise<BucketObject>;
}

export function createLocationsKeeper(now: () => number = () => performance.now()): LocationsKeeper {
  const kept = new Map<string, Kept>();
  let bytes = 0;
  const drop = (name: string, entry: Kept) => {
    if (kept.get(name) !== entry) return;
    kept.delete(name);
    bytes -= entry.size;
  };
  return {
    async get(repository, bucket, key, signal) {
      const name = `${repository}/${key}`;
      const at = now();
      for (const [oldName, old] of kept) {
        if (at - old.at <= LOCATIONS_AGE) break;
        drop(oldName, old);
      }
      let entry = kept.get(name);
      if (entry === undefined) {
        const made: Kept = { at, object: load(bucket, key), size: 0 };
        entry = made;
        kept.set(name, made);
        made.object.then(
          (object) => {
            if (kept.get(name) !== made) return;
            made.size = object.bytes.length;
            bytes += made.size;
            for (const [oldName, old] of kept) {
              if (bytes <= KEPT_BYTES) break;
              drop(oldName, old);
            }
          },
          () => drop(name, made),
        );
      }
      const { info, bytes: found } = await abortable(entry.object, signal);
      return { ...info, body: once(found) };
    },
  };
}

async function load(bucket: Source, key: string): Promise<{ info: ObjectInfo; bytes: Buffer }> {
  const { body, ...info } = await bucket.get(key);
  const parts: Buffer[] = [];
  for await (const part of body) parts.push(part);
  return { info, bytes: Buffer.concat(parts) };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
