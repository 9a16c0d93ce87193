import { type Digest, isDigest } from './digest.ts';
import { ConflictError } from './errors.ts';
import { canonicalJson } from './format/canonical-json.ts';
import { SHALLOW, shallowKey } from './keys.ts';
import type { Repository } from './repository.ts';

/*
 * A version's parents are stored before it. Where they are not there, a mark tells so: canonical JSON {"format":1} as
 *
 *     shallow/<version id>         parents were given up: by retention, or they were not to be had where the version was copied from
 *     shallow/depth-<version id>   only the last versions of a history were copied: a copy of the whole history brings the others
 *
 * stored before the version, or before its parents are removed. So without a mark, all that led to a version was stored once.
 */

const MARK = Buffer.from(canonicalJson({ format: 1 }), 'utf8');
const DEPTH = 'depth-';

/** The versions of which parents are left out, for whatever reason. */
export async function readShallow(repository: Repository, signal?: AbortSignal): Promise<Set<Digest>> {
  return await readMarks(repository, ['', DEPTH], signal);
}

/** The versions of which parents are left out because only so many were copied. */
export async function readCut(repository: Repository, signal?: AbortSignal): Promise<Set<Digest>> {
  return await readMarks(repository, [DEPTH], signal);
}

/** To be called before the version is stored, or its parents are removed. */
export async function markShallow(repository: Repository, version: Digest, signal?: AbortSignal): Promise<void> {
  await mark(repository, shallowKey(version), signal);
}

/** To be called before the version is stored. */
export async function markCut(repository: Repository, version: Digest, signal?: AbortSignal): Promise<void> {
  await mark(repository, cutKey(version), signal);
}

/** To be called when all of the version's parents are stored. */
export async function unmarkCut({ bucket }: Repository, version: Digest, signal?: AbortSignal): Promise<void> {
  await bucket.delete(cutKey(version), { signal });
}

function cutKey(version: Digest): string {
  return `${SHALLOW}${DEPTH}${version}`;
}

async function readMarks(
  { bucket }: Repository,
  kinds: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Set<Digest>> {
  const marked = new Set<Digest>();
  for await (const { key } of bucket.list(SHALLOW, { signal })) {
    const name = key.slice(SHALLOW.length);
    for (const kind of kinds) {
      const id = name.slice(kind.length);
      if (name.startsWith(kind) && isDigest(id)) marked.add(id);
    }
  }
  return marked;
}

async function mark({ bucket }: Repository, key: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    await bucket.put(key, MARK, { condition: 'absent', signal });
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
  }
}
