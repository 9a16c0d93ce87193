import {
  ConflictError,
  InvalidError,
  LarderError,
  type LarderErrorOptions,
  NotFoundError,
  UnavailableError,
} from '../../errors.ts';
import type { RequestKind } from '../metrics.ts';
import { type Failure, isAboutKeys, isTransient } from './failure.ts';

/** What was asked, for messages. */
export interface Asked {
  readonly kind: RequestKind;
  /** The object's key in the bucket, or the prefix of a listing, in full. */
  readonly key: string;
}

export interface Where {
  readonly bucket: string;
  /** What the client talks to: a URL, or `AWS`. */
  readonly endpoint: string;
  /** Where keys come from. */
  readonly credentials: string;
}

/** The permission that each kind of request needs, in the words of a bucket policy. */
export const PERMISSIONS: Readonly<Record<RequestKind, string>> = {
  get: 's3:GetObject',
  head: 's3:GetObject',
  put: 's3:PutObject',
  list: 's3:ListBucket',
  delete: 's3:DeleteObject',
  'create-upload': 's3:PutObject',
  'upload-part': 's3:PutObject',
  'complete-upload': 's3:PutObject',
  'abort-upload': 's3:AbortMultipartUpload',
  'get-versioning': 's3:GetBucketVersioning',
};

const VERBS: Readonly<Record<RequestKind, string>> = {
  get: 'read',
  head: 'looked at',
  put: 'written',
  list: 'listed',
  delete: 'deleted',
  'create-upload': 'written',
  'upload-part': 'written',
  'complete-upload': 'written',
  'abort-upload': 'given up',
  'get-versioning': 'asked for its versioning',
};

/** A failure as one of our errors; what a condition or a missing key means is the caller's to say first. */
export function errorOf(failure: Failure, asked: Asked, where: Where, tries: number): LarderError {
  if (failure.cause instanceof LarderError) return failure.cause;
  const { status, code, message, cause } = failure;
  const { kind, key } = asked;
  const what =
    kind === 'list' || kind === 'get-versioning' ? `s3://${where.bucket}/${key}` : `${key} in s3://${where.bucket}`;
  const cannot = `${what} cannot be ${VERBS[kind]}`;
  const facts = { bucket: where.bucket, key, status, code };
  const options = { cause, facts };
  if (code === 'NoSuchBucket')
    return new NotFoundError(
      `there is no bucket '${where.bucket}' at ${where.endpoint}: make it, or correct the location`,
      { cause, facts: { bucket: where.bucket, code } },
    );
  if (isAboutKeys(failure))
    return new UnavailableError(
      `${cannot}: ${where.endpoint} refuses the credentials of ${where.credentials} (${code})`,
      options,
    );
  if (/Credentials|TokenProvider/.test(code))
    return new UnavailableError(
      `${cannot}: no credentials for ${where.endpoint} (${message}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or 'profile=' or 'credentials=' in the location`,
      options,
    );
  if (code === 'InvalidObjectState')
    return new UnavailableError(
      `${cannot}: it is archived; restore it with the store's own tools, then try again`,
      options,
    );
  if (status === 403 || status === 401) return deniedOf(failure, kind, cannot, where, options);
  if (
    status === 301 ||
    code === 'PermanentRedirect' ||
    code === 'AuthorizationHeaderMalformed' ||
    code === 'IllegalLocationConstraintException'
  )
    return new InvalidError(
      `${cannot}: the bucket is in another region${failure.headers['x-amz-bucket-region'] ? `, ${failure.headers['x-amz-bucket-region']}` : ''}; name it with 'region=' in the location (${message})`,
      options,
    );
  if (status === 501 || code === 'NotImplemented')
    return new InvalidError(`${cannot}: ${where.endpoint} does not have what it needs (${code}: ${message})`, options);
  if ((status === 409 && !isTransient(failure)) || status === 412)
    return new ConflictError(
      `${cannot}: ${where.endpoint} says that something is in its way (${code}: ${message})`,
      options,
    );
  if (status === 404) return new NotFoundError(`there is no ${what}`, { cause, facts: { bucket: where.bucket, key } });
  if (status === 0 && isTransient(failure))
    return new UnavailableError(
      `${cannot}: ${where.endpoint} cannot be reached${tries > 1 ? `, tried ${tries} times` : ''} (${code}: ${message})`,
      options,
    );
  if (status === 0 && /CERT|SIGNATURE/.test(code))
    return new UnavailableError(
      `${cannot}: the certificate of ${where.endpoint} is not trusted (${code}); name its authority in NODE_EXTRA_CA_CERTS`,
      options,
    );
  if (status === 0) return new UnavailableError(`${cannot}: ${message || code}`, options);
  if (isTransient(failure))
    return new UnavailableError(
      `${cannot}: ${where.endpoint} answered ${tries > 1 ? `${tries} times, at last ` : ''}with ${status} ${code}${message && message !== code ? ` (${message})` : ''}; try again later`,
      options,
    );
  return new InvalidError(`${cannot}: ${where.endpoint} answered with ${status} ${code} (${message})`, options);
}

function deniedOf(
  { code, message }: Failure,
  kind: RequestKind,
  cannot: string,
  where: Where,
  options: LarderErrorOptions,
): UnavailableError {
  const reason = message === '' || message === code || /^Unknown/.test(message) ? code : `${code}: ${message}`;
  const place = kind === 'list' || kind === 'get-versioning' ? 'on the bucket' : 'on this key';
  // Without it, a store does not tell who may not list whether there is such a key.
  const also =
    kind === 'get' || kind === 'head' ? ', and s3:ListBucket to tell a missing key from a forbidden one' : '';
  return new UnavailableError(
    `${cannot}: ${where.endpoint} denies it (${reason}); the credentials of ${where.credentials} need the permission ${PERMISSIONS[kind]} ${place}${also}`,
    options,
  );
}
