import { readdir } from 'node:fs/promises';
import { type Digest, isDigest } from '../dataset/digest.ts';
import type { Cache } from './cache.ts';
import { ObjectChecker } from './check-object.ts';
import type { CacheIndex } from './index.ts';
import { fans } from './layout.ts';
import { quarantine } from './quarantine.ts';
import type { KnownSources } from './scrub.ts';
import type { StagedSource } from './segment-reader.ts';

export interface VerifyProgress {
  readonly objects: number;
  readonly bytes: number;
}

export interface VerifyResult extends VerifyProgress {
  /** Put in quarantine: the cache does not have them any more, and fetches them again when they are wanted. */
  readonly damaged: readonly Digest[];
  /** Removed, since nothing that is known here tells what they should be. */
  readonly unknown: readonly Digest[];
}

export interface VerifyOptions {
  readonly cache: Cache;
  readonly index?: CacheIndex;
  /** Versions that tell the parts of objects of more than one chunk. */
  readonly sources: readonly StagedSource[];
  /** False: there are versions besides, so that what nobody knows stays. */
  readonly complete?: boolean;
  /** Asked before an object that nobody knows is removed: its version may have been staged since this began. */
  readonly latest?: () => Promise<KnownSources>;
  /** What to do about a damaged one: it is put in quarantine where this is not said. */
  readonly onDamaged?: (id: Digest) => void;
  readonly onProgress?: (progress: VerifyProgress) => void;
  readonly signal?: AbortSignal;
}

/** Reads every object of a cache and checks it against its name. */
export async function verifyCache(options: VerifyOptions): Promise<VerifyResult> {
  const { cache, index, sources, latest, onProgress, signal } = options;
  const onDamaged = options.onDamaged ?? ((id) => quarantine(cache, id));
  const checker = new ObjectChecker(cache);
  const damaged: Digest[] = [];
  const unknown: Digest[] = [];
  let objects = 0;
  let bytes = 0;
  for (const fan of fans()) {
    for (const id of await readdir(`${cache.layout.objects}/${fan}`)) {
      signal?.throwIfAborted();
      if (!isDigest(id)) continue;
      let { complete = true } = options;
      let checked = await checker.check(id, sources, { signal });
      if (checked?.verdict === 'unknown' && latest) {
        const known = await latest();
        complete = known.complete;
        checked = await checker.check(id, known.sources, { signal });
      }
      if (!checked) continue;
      objects += 1;
      bytes += checked.size;
      if (checked.verdict === 'right') {
        index?.markVerified(id);
      } else if (checked.verdict === 'damaged') {
        damaged.push(id);
        onDamaged(id);
      } else {
        if (!complete) continue;
        unknown.push(id);
        cache.remove(id);
      }
      onProgress?.({ objects, bytes });
    }
  }
  return { objects, bytes, damaged, unknown };
}
