import { randomUUID } from 'node:crypto';
import type { PutObjectCommandInput } from '@aws-sdk/client-s3';
import { ConflictError, type LarderError } from '../../errors.ts';
import type { Body, PutOptions } from '../bucket.ts';
import { type Failure, isMissing } from './failure.ts';
import { headObject, type Target } from './get.ts';
import { withHeaders } from './headers.ts';
import type { S3Options } from './location.ts';
import { etagOf, quoted } from './object-info.ts';
import { lengthOf, Parts, partsOf, sumsOf } from './parts.ts';
import type { Attempts, Requester, SendOptions } from './requester.ts';
import { isTombstone, TOMBSTONE, TOMBSTONE_METADATA } from './tombstone.ts';
import { putInParts } from './upload.ts';

export type Condition = NonNullable<PutOptions['condition']>;

export interface WriteOptions {
  readonly storage: Pick<S3Options, 'sse' | 'sseKey' | 'storageClass' | 'tags'>;
  /** Objects larger than this are sent in parts, in bytes. */
  readonly largest: number;
  /** The size of a part, in bytes. */
  readonly part: number;
}

/** The user metadata that names a write: by it, a writer whose answer was lost finds out whether the object there is its own. */
const MARK = 'larder-write';

export async function putObject(
  requester: Requester,
  target: Target,
  body: Body,
  { condition, signal }: PutOptions,
  options: WriteOptions,
): Promise<string> {
  try {
    return await putOnce(requester, target, body, { condition, signal }, options);
  } catch (error) {
    if (condition !== 'absent' || !(error instanceof ConflictError)) throw error;
    const there = await headObject(requester, target, signal);
    if (there === undefined || !isTombstone(there.metadata)) throw error;
    return await putOnce(requester, target, body, { condition: { etag: there.etag }, signal }, options);
  }
}

/** Puts a tombstone in an object's place, if it is unchanged. */
export async function buryObject(
  requester: Requester,
  target: Target,
  etag: string,
  signal: AbortSignal | undefined,
  options: WriteOptions,
): Promise<void> {
  await putOnce(requester, target, TOMBSTONE, { condition: { etag }, signal }, options, TOMBSTONE_METADATA);
}

async function putOnce(
  requester: Requester,
  target: Target,
  body: Body,
  { condition, signal }: { readonly condition: Condition | undefined; readonly signal: AbortSignal | undefined },
  options: WriteOptions,
  metadata: Readonly<Record<string, string>> = {},
): Promise<string> {
  const parts = partsOf(body);
  const length = lengthOf(parts);
  const write: Write = {
    requester,
    target,
    condition,
    signal,
    mark: randomUUID(),
    storage: storageOf(options.storage),
  };
  if (length > options.largest) return await putInParts(write, parts, length, options.part);
  const { PutObjectCommand } = await import('@aws-sdk/client-s3');
  const sums = sumsOf(parts);
  return await requester.send(
    { kind: 'put', key: target.key },
    async (client, abortSignal) => {
      const command = new PutObjectCommand({
        Bucket: target.bucket,
        Key: target.key,
        Body: new Parts(parts),
        ContentLength: length,
        ChecksumCRC32: sums.crc32,
        ...(condition === undefined ? {} : { Metadata: { ...markOf(write), ...metadata } }),
        ...write.storage,
        ...conditionOf(condition),
      });
      const { ETag } = await client.send(withHeaders(command, { 'x-amz-content-sha256': sums.sha256 }), {
        abortSignal,
      });
      return etagOf(ETag);
    },
    { signal, bytes: length, meaning: meaningOf(write) },
  );
}

/** What is written, and how to know it again. */
export interface Write {
  readonly requester: Requester;
  readonly target: Target;
  readonly condition: Condition | undefined;
  readonly signal: AbortSignal | undefined;
  readonly mark: string;
  readonly storage: ReturnType<typeof storageOf>;
}

export function markOf({ mark }: Write): Record<string, string> {
  return { [MARK]: mark };
}

export function conditionOf(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return condition === 'absent' ? { IfNoneMatch: '*' } : { IfMatch: quoted(condition.etag) };
}

/** What a failure of the request that makes a conditional object visible means: another won, or this write did long ago. */
export function meaningOf(write: Write): NonNullable<SendOptions['meaning']> {
  return async (failure, attempts) => {
    const { condition } = write;
    if (condition === undefined || !isRefusal(failure, condition)) return undefined;
    if (attempts.uncertain) {
      const etag = await ownEtag(write);
      if (etag !== undefined) return { value: etag };
    }
    return refusalOf(write, failure, attempts);
  };
}

/** The ETag of the object that is there, if this write made it. */
export async function ownEtag({ requester, target, mark, signal }: Write): Promise<string | undefined> {
  const found = await headObject(requester, target, signal);
  return found?.metadata[MARK] === mark ? found.etag : undefined;
}

function isRefusal(failure: Failure, condition: Condition): boolean {
  return failure.status === 412 || (condition !== 'absent' && isMissing(failure));
}

function refusalOf({ target, condition }: Write, { cause }: Failure, { uncertain }: Attempts): LarderError {
  const facts = { bucket: target.bucket, key: target.key, ...(uncertain ? { uncertain } : {}) };
  const doubt = uncertain ? '; an earlier attempt may have been carried out before that, its answer was lost' : '';
  return condition === 'absent'
    ? new ConflictError(`${target.name} exists already${doubt}`, { cause, facts })
    : new ConflictError(`${target.name} was changed or removed by someone else${doubt}`, { cause, facts });
}

function storageOf({
  sse,
  sseKey,
  storageClass,
  tags,
}: WriteOptions['storage']): Pick<
  PutObjectCommandInput,
  'ServerSideEncryption' | 'SSEKMSKeyId' | 'StorageClass' | 'Tagging'
> {
  return {
    ...(sse === undefined ? {} : { ServerSideEncryption: sse }),
    ...(sseKey === undefined ? {} : { SSEKMSKeyId: sseKey }),
    ...(storageClass === undefined
      ? {}
      : { StorageClass: storageClass as NonNullable<PutObjectCommandInput['StorageClass']> }),
    ...(tags === undefined ? {} : { Tagging: tags }),
  };
}
