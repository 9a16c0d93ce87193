import { ConflictError, InvalidError } from '../../errors.ts';
import { isMissing } from './failure.ts';
import { headObject, type Target } from './get.ts';
import { quoted } from './object-info.ts';
import { buryObject, putObject, type WriteOptions } from './put.ts';
import type { Requester } from './requester.ts';
import { isTombstone } from './tombstone.ts';

/** An ETag that no object has: it is the form of an MD5. */
const NO_ETAG = '0'.repeat(32);

export async function deleteObject(
  requester: Requester,
  target: Target,
  { ifMatch, signal }: { readonly ifMatch?: string | undefined; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const { DeleteObjectCommand } = await import('@aws-sdk/client-s3');
  const { bucket, key } = target;
  await requester.send(
    { kind: 'delete', key },
    async (client, abortSignal) => {
      await client.send(
        new DeleteObjectCommand({
          Bucket: bucket,
          Key: key,
          ...(ifMatch === undefined ? {} : { IfMatch: quoted(ifMatch) }),
        }),
        { abortSignal },
      );
    },
    {
      signal,
      meaning: async (failure, { uncertain }) => {
        const { status, cause } = failure;
        if (isMissing(failure)) return { value: undefined };
        if (status !== 412 || ifMatch === undefined) return undefined;
        // With a condition, some stores say of an object that is not there that it does not match.
        const there = await headObject(requester, target, signal);
        if (there === undefined || isTombstone(there.metadata)) return { value: undefined };
        const doubt = uncertain
          ? '; an earlier attempt may have removed the old one before that, its answer was lost'
          : '';
        return new ConflictError(`${target.name} was changed by someone else${doubt}`, {
          cause,
          facts: { bucket, key },
        });
      },
    },
  );
}

/** As `deleteObject` with `ifMatch`, in a store that ignores it there. */
export async function deleteByTombstone(
  requester: Requester,
  target: Target,
  { ifMatch, signal }: { readonly ifMatch: string; readonly signal?: AbortSignal | undefined },
  options: WriteOptions,
): Promise<void> {
  try {
    await buryObject(requester, target, ifMatch, signal, options);
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    const there = await headObject(requester, target, signal);
    if (there !== undefined && !isTombstone(there.metadata)) throw error;
  }
}

/**
 * Finds out whether the store keeps If-Match on a DELETE: many ignore it, and would remove what somebody else has just written.
 * @param probe an object that nobody else uses; it is made and removed
 */
export async function keepsConditionalDelete(
  requester: Requester,
  probe: Target,
  options: WriteOptions,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  await putObject(requester, probe, Buffer.from('kept'), { ...(signal === undefined ? {} : { signal }) }, options);
  try {
    await deleteObject(requester, probe, { ifMatch: NO_ETAG, signal });
    return false;
  } catch (error) {
    // Refused for the wrong ETag, or for the header.
    if (error instanceof ConflictError || error instanceof InvalidError) return error instanceof ConflictError;
    throw error;
  } finally {
    await deleteObject(requester, probe, {});
  }
}
