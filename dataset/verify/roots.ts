import { readObject } from '../bucket/read-object.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { decodeRef, REF_LIMIT } from '../format/ref-json.ts';
import { DATASETS } from '../keys.ts';
import { unescapeName } from '../names.ts';
import { readPins } from '../pins.ts';
import { resolveName } from '../refs.ts';
import type { Repository } from '../repository.ts';
import type { DamageList } from './damage.ts';

/** What leads to a version: for naming what a damaged object affects. */
export interface Place {
  readonly dataset: string;
  readonly ref: string;
  readonly version: Digest;
}

/**
 * The versions that branches, tags and records of volumes and snapshots name; of `names` (`NAME[@REF]`), if they are given. A name whose object is
 * damaged goes to `damage`.
 */
export async function* rootsOf(
  repository: Repository,
  damage: DamageList,
  options: { readonly names?: readonly string[]; readonly signal?: AbortSignal } = {},
): AsyncGenerator<Place> {
  const { names, signal } = options;
  const whole = new Set(names?.filter((name) => !name.includes('@')));
  if (names !== undefined)
    for (const name of names) {
      const { dataset, ref, version } = await resolveName(repository, name);
      if (!whole.has(dataset)) yield { dataset, ref, version };
    }
  const { bucket } = repository;
  for await (const { key } of bucket.list(DATASETS, { signal })) {
    const [folder, kind, file] = key.slice(DATASETS.length).split('/');
    const dataset = unescapeName(folder ?? '');
    const ref = unescapeName(file ?? '');
    if (dataset === undefined || ref === undefined || (kind !== 'branches' && kind !== 'tags')) continue;
    if (names !== undefined && !whole.has(dataset)) continue;
    try {
      const { bytes } = await readObject(bucket, key, REF_LIMIT, { signal });
      const { version } = decodeRef(key, bytes);
      yield { dataset, ref, version };
    } catch (error) {
      // Deleted since it was listed.
      if (error instanceof NotFoundError) continue;
      damage.noteError(key, error, [{ dataset, ref, version: undefined, path: undefined }], 1);
    }
  }
  if (names !== undefined) return;
  try {
    for await (const { key, versions, dataset = '' } of readPins(repository, { signal }))
      for (const version of versions) yield { dataset, ref: key, version };
  } catch (error) {
    const key = error instanceof CorruptError ? error.facts.object : undefined;
    if (typeof key !== 'string') throw error;
    damage.noteError(key, error, [], 0);
  }
}
