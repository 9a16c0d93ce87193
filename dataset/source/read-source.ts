import type { Bucket } from '../bucket/bucket.ts';
import type { SourceContent } from '../entry.ts';
import { ConflictError, CorruptError, NotFoundError, UnavailableError } from '../errors.ts';

export interface ReadSourceOptions {
  /** In bytes, within the object; all of it if not said. */
  readonly range?: { readonly offset: number; readonly length: number };
  readonly signal?: AbortSignal;
}

/**
 * The bytes of an object in place, as it was when the version was made: by its version id, or else only if its ETag is the same.
 * @param size what the entry says
 * @throws CorruptError that names bucket and key where the object has changed or is gone
 */
export async function* readSource(
  bucket: Bucket,
  content: Pick<SourceContent, 'bucket' | 'key' | 'etag' | 'version'>,
  size: number,
  { range, signal }: ReadSourceOptions = {},
): AsyncGenerator<Buffer> {
  const wanted = range?.length ?? size;
  // No request reads nothing.
  if (wanted === 0) return;
  const { key, etag, version } = content;
  const condition = version === undefined ? { ifMatch: etag } : { version };
  const whole = range === undefined || (range.offset === 0 && range.length === size);
  let given = 0;
  try {
    const object = await bucket.get(key, { ...condition, ...(!whole && { range }), signal });
    if (object.etag !== etag || object.size !== size) {
      await object.body[Symbol.asyncIterator]().return?.();
      throw object.etag === etag
        ? tornSource(content, `it came with ${object.size} bytes instead of ${size}, and the same ETag`)
        : changedSource(content, `its ETag is ${object.etag}`);
    }
    for await (const block of object.body) {
      given += block.length;
      if (given > wanted) break;
      yield block;
    }
  } catch (error) {
    throw sourceFault(content, error);
  }
  if (given !== wanted) throw tornSource(content, `it gave ${given} bytes instead of ${wanted}`);
}

/** What a failure to read a source means: a condition that does not hold, or an object that is gone, is damage of the version. */
export function sourceFault(
  content: Pick<SourceContent, 'bucket' | 'key' | 'etag' | 'version'>,
  error: unknown,
): unknown {
  if (error instanceof ConflictError) return changedSource(content, 'its ETag is another', error);
  if (error instanceof NotFoundError) return lostSource(content, error);
  return error;
}

/** Whether an error says that a source is not what a version refers to: no second try mends that. */
export function isSourceFault(error: unknown): error is CorruptError {
  return error instanceof CorruptError && error.facts.source === true;
}

type Reference = Pick<SourceContent, 'bucket' | 'key' | 'etag' | 'version'>;

export function changedSource({ bucket, key, etag, version }: Reference, how: string, cause?: unknown): CorruptError {
  return new CorruptError(
    `the object '${key}' in bucket '${bucket}' has changed since it was imported in place (ETag ${etag}): ${how}; ` +
      'put it back as it was, or import again for a version of what is there',
    { cause, facts: { bucket, key, etag, version, source: true } },
  );
}

/** What is no change of the object: something on the way to it. */
function tornSource({ bucket, key }: Reference, how: string): UnavailableError {
  return new UnavailableError(`the object '${key}' in bucket '${bucket}' could not be read whole: ${how}; try again`, {
    facts: { bucket, key },
  });
}

export function lostSource({ bucket, key, etag, version }: Reference, cause?: unknown): CorruptError {
  const what = version === undefined ? '' : ` (version ${version})`;
  return new CorruptError(
    `the object '${key}'${what} is gone from bucket '${bucket}', where it was imported in place: put it back as it was, or import again`,
    { cause, facts: { bucket, key, etag, version, source: true } },
  );
}
