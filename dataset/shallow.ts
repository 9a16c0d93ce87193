import { type Digest, isDigest } from './digest.ts';
import { ConflictError } from './errors.ts';
import { canonicalJson } from './format/canonical-json.ts';
import { SHALLOW, shallowKey } from './keys.ts';
import type { Repository } from './repository.ts';

/*
 * A version's parents are stored before it. Where they are not, because only the last versions of a history were copied, a mark tells so, and
 * is stored before the version: canonical JSON {"format":1}. So without a mark, all that led to a version was stored once.
 */

const MARK = Buffer.from(canonicalJson({ format: 1 }), 'utf8');

/** The versions of which parents are left out. */
export async function readShallow(repository: Repository, signal?: AbortSignal): Promise<Set<Digest>> {
  const marked = new Set<Digest>();
  for await (const { key } of repository.bucket.list(SHALLOW, { signal })) {
    const id = key.slice(SHALLOW.length);
    if (isDigest(id)) marked.add(id);
  }
  return marked;
}

/** To be called before the version is stored. */
export async function markShallow({ bucket }: Repository, version: Digest, signal?: AbortSignal): Promise<void> {
  try {
    await bucket.put(shallowKey(version), MARK, { condition: 'absent', signal });
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
  }
}

/** To be called when all of the version's parents are stored. */
export async function unmarkShallow({ bucket }: Repository, version: Digest, signal?: AbortSignal): Promise<void> {
  await bucket.delete(shallowKey(version), { signal });
}
