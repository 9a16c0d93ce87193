import { randomUUID } from 'node:crypto';
import { ConflictError, InvalidError } from '../../errors.ts';
import { PROBES } from '../prove-conditions.ts';
import { isMissing } from './failure.ts';
import { headObject, type Target } from './get.ts';
import { quoted } from './object-info.ts';
import { putObject, type WriteOptions } from './put.ts';
import type { Requester } from './requester.ts';

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
        if ((await headObject(requester, target, signal)) === undefined) return { value: undefined };
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

/**
 * Finds out whether the store keeps If-Match on a DELETE: many ignore it, and would remove what somebody else has just written. An
 * InvalidError where it does not.
 * @param at what makes a target of a key
 */
export async function proveConditionalDelete(
  requester: Requester,
  at: (key: string) => Target,
  options: WriteOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const probe = at(`${PROBES}delete-${randomUUID()}`);
  await putObject(requester, probe, Buffer.from('kept'), { ...(signal === undefined ? {} : { signal }) }, options);
  let kept = false;
  try {
    await deleteObject(requester, probe, { ifMatch: NO_ETAG, signal });
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    kept = true;
  } finally {
    await deleteObject(requester, probe, {});
  }
  if (!kept)
    throw new InvalidError(
      `${requester.where.endpoint} ignores If-Match on a DELETE, so that nothing in s3://${probe.bucket} can be removed only if it is unchanged: see docs/object-stores.md`,
      { facts: { bucket: probe.bucket } },
    );
}
