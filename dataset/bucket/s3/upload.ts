import { withHeaders } from './headers.ts';
import { etagOf } from './object-info.ts';
import { crc32Of, crc32Text, Parts, sliceOf, sumsOf } from './parts.ts';
import { conditionOf, markOf, meaningOf, ownEtag, type Write } from './put.ts';

/** Parts of one upload that are sent at once. */
const PARTS_AT_ONCE = 4;
/** How long giving an upload up may take. */
const ABANDON_MS = 5_000;
/** The protocol's limit. */
const MOST_PARTS = 10_000;

/**
 * Sends an object in parts, some at once, and makes it visible as a whole at the end, under the condition. The parts are views of the
 * buffers given: no byte is copied. What fails is given up, so that the store does not keep, and bill, its parts.
 */
export async function putInParts(
  write: Write,
  parts: readonly Uint8Array[],
  length: number,
  partBytes: number,
): Promise<string> {
  const { requester, target, condition, signal, storage } = write;
  const { bucket, key } = target;
  const { CreateMultipartUploadCommand, UploadPartCommand, CompleteMultipartUploadCommand } = await import(
    '@aws-sdk/client-s3'
  );
  const size = Math.max(partBytes, Math.ceil(length / MOST_PARTS));
  const create = (whole: boolean) =>
    requester.send(
      { kind: 'create-upload', key },
      async (client, abortSignal) => {
        const { UploadId } = await client.send(
          new CreateMultipartUploadCommand({
            Bucket: bucket,
            Key: key,
            ChecksumAlgorithm: 'CRC32',
            ...(whole ? { ChecksumType: 'FULL_OBJECT' as const } : {}),
            Metadata: markOf(write),
            ...storage,
          }),
          { abortSignal },
        );
        return UploadId!;
      },
      {
        signal,
        // Some stores keep CRC-32 of the parts only, and say so.
        meaning: async ({ status }) => (whole && (status === 400 || status === 501) ? { value: undefined } : undefined),
      },
    );
  const first: string | undefined = await create(true);
  const upload = first ?? (await create(false));
  const whole = first !== undefined;
  try {
    const numbers = Array.from({ length: Math.ceil(length / size) }, (_, i) => i);
    const done: { PartNumber: number; ETag: string; ChecksumCRC32: string }[] = [];
    const stopping = new AbortController();
    const stop = signal === undefined ? stopping.signal : AbortSignal.any([signal, stopping.signal]);
    let next = 0;
    const worker = async () => {
      while (next < numbers.length) {
        stop.throwIfAborted();
        const number = next++;
        const slice = sliceOf(parts, number * size, Math.min(length, (number + 1) * size));
        const sums = sumsOf(slice);
        const body = new Parts(slice);
        const etag = await requester.send(
          { kind: 'upload-part', key },
          async (client, abortSignal) => {
            const command = new UploadPartCommand({
              Bucket: bucket,
              Key: key,
              UploadId: upload,
              PartNumber: number + 1,
              Body: body,
              ContentLength: body.length,
              ChecksumCRC32: sums.crc32,
            });
            const { ETag } = await client.send(withHeaders(command, { 'x-amz-content-sha256': sums.sha256 }), {
              abortSignal,
            });
            return ETag!;
          },
          { signal: stop, bytes: body.length },
        );
        done[number] = { PartNumber: number + 1, ETag: etag, ChecksumCRC32: sums.crc32 };
      }
    };
    const workers = Array.from({ length: Math.min(PARTS_AT_ONCE, numbers.length) }, async () => {
      try {
        await worker();
      } catch (error) {
        stopping.abort(error);
        throw error;
      }
    });
    const ends = await Promise.allSettled(workers);
    if (stopping.signal.aborted) throw stopping.signal.reason;
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    const conditional = meaningOf(write);
    return await requester.send(
      { kind: 'complete-upload', key },
      async (client, abortSignal) => {
        const { ETag } = await client.send(
          new CompleteMultipartUploadCommand({
            Bucket: bucket,
            Key: key,
            UploadId: upload,
            MultipartUpload: { Parts: done },
            ...(whole ? { ChecksumType: 'FULL_OBJECT' as const, ChecksumCRC32: crc32Text(crc32Of(parts)) } : {}),
            ...conditionOf(condition),
          }),
          { abortSignal },
        );
        return etagOf(ETag);
      },
      {
        signal,
        meaning: async (failure, attempts) => {
          // The upload is gone when an earlier attempt completed it.
          if (failure.code === 'NoSuchUpload' && attempts.uncertain) {
            const etag = await ownEtag(write);
            if (etag !== undefined) return { value: etag };
          }
          return await conditional(failure, attempts);
        },
      },
    );
  } catch (error) {
    await abandon(write, upload);
    throw error;
  }
}

/** Best effort, and not for long: a rule of the bucket must clear what a killed process left anyway. */
async function abandon({ requester, target }: Write, upload: string): Promise<void> {
  const { AbortMultipartUploadCommand } = await import('@aws-sdk/client-s3');
  const { bucket, key } = target;
  await requester
    .send(
      { kind: 'abort-upload', key },
      (client, abortSignal) =>
        client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId: upload }), { abortSignal }),
      { signal: AbortSignal.timeout(ABANDON_MS) },
    )
    .catch(() => undefined);
}
