import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry, SourceContent } from '../entry.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { readEntries } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import type { Repository } from '../repository.ts';
import { openSource } from './sources.ts';

/** An object in place that is not what a version refers to. */
export interface SourceDamage {
  readonly bucket: string;
  readonly key: string;
  /** `unknown`: the repository does not tell where the bucket is. */
  readonly fault: 'changed' | 'missing' | 'unknown';
  /** The file that it is the content of. */
  readonly path: ByteString;
}

/** Objects that are asked for at a time. */
const AT_ONCE = 32;

/** Asks for every object that a tree refers to whether it is still the same, without reading it. In path order. */
export async function* verifySources(
  repository: Repository,
  root: Digest,
  signal?: AbortSignal,
): AsyncGenerator<SourceDamage> {
  for await (const entries of readEntries(repository, root, { signal }))
    yield* verifySourcesOf(repository, entries, signal);
}

/** The same for some entries. */
export async function* verifySourcesOf(
  repository: Repository,
  entries: readonly Entry[],
  signal?: AbortSignal,
): AsyncGenerator<SourceDamage> {
  const inPlace = entries.flatMap((entry) =>
    entry.type === 'file' && entry.content.kind === 'source'
      ? [{ path: entry.path, size: entry.size, content: entry.content }]
      : [],
  );
  const checked = mapAhead(inPlace, AT_ONCE, async ({ path, size, content }) => ({
    path,
    content,
    fault: await faultOf(repository, content, size, signal),
  }));
  for await (const { path, content, fault } of checked) {
    const { bucket, key } = content;
    if (fault !== undefined) yield { bucket, key, fault, path };
  }
}

async function faultOf(
  repository: Repository,
  content: SourceContent,
  size: number,
  signal: AbortSignal | undefined,
): Promise<SourceDamage['fault'] | undefined> {
  try {
    const { bucket, key } = await openSource(repository, content);
    const { etag, version } = content;
    const found =
      version === undefined ? await bucket.head(key, signal) : await headVersion(bucket, key, version, signal);
    if (found === undefined) return 'missing';
    return found.etag === etag && found.size === size ? undefined : 'changed';
  } catch (error) {
    if (error instanceof NotFoundError) return 'missing';
    if (error instanceof CorruptError && error.facts.source === true) return 'unknown';
    throw error;
  }
}

/** A version that is not the newest is asked for by reading it, and its bytes are left alone. */
async function headVersion(
  bucket: Awaited<ReturnType<typeof openSource>>['bucket'],
  key: string,
  version: string,
  signal: AbortSignal | undefined,
) {
  const newest = await bucket.head(key, signal);
  if (newest?.version === version) return newest;
  const { body, ...info } = await bucket.get(key, { version, signal });
  await body[Symbol.asyncIterator]().return?.();
  return info;
}
