/** What came back instead of success, in the words of the store: the one place that knows the SDK's errors. */
export interface Failure {
  /** 0 where there was no answer. */
  readonly status: number;
  /** The store's code, such as `SlowDown`, or a system's, such as `ECONNRESET`. */
  readonly code: string;
  readonly message: string;
  /** In milliseconds, where the store says when to come again. */
  readonly retryAfter?: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly cause: unknown;
}

interface SdkError {
  readonly name?: string;
  readonly code?: string;
  readonly Code?: string;
  readonly message?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly statusCode?: number; readonly headers?: Record<string, string> };
}

export function failureOf(error: unknown): Failure {
  const { name = '', code, Code, message = '', $metadata, $response } = error as SdkError;
  const status = $response?.statusCode ?? $metadata?.httpStatusCode ?? 0;
  const headers = $response?.headers ?? {};
  return {
    status,
    code: (status > 0 ? (Code ?? name) : (code ?? name)) || 'Error',
    message,
    ...retryAfterOf(headers['retry-after']),
    headers,
    cause: error,
  };
}

/** Seconds or a date, as RFC 9110 has it. */
function retryAfterOf(value: string | undefined): { retryAfter?: number } {
  if (value === undefined) return {};
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) && wait > 0 ? { retryAfter: wait } : {};
}

const TRANSIENT = new Set([
  'SlowDown',
  'ServiceUnavailable',
  'InternalError',
  'OperationAborted',
  'ConditionalRequestConflict',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'RequestLimitExceeded',
  'BandwidthLimitExceeded',
  // The bytes came otherwise than they were sent.
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
]);

/** Whether sending it again may help. */
export function isTransient({ status, code }: Failure): boolean {
  if (TRANSIENT.has(code)) return true;
  if (status === 0) return !isLocal(code);
  // An answer that says success and cannot be read was cut short.
  return status === 408 || status === 429 || (status >= 500 && status !== 501) || (status >= 200 && status < 300);
}

/** Whether the store asks for fewer requests. */
export function asksForLess({ status, code }: Failure): boolean {
  return status === 503 || status === 429 || code === 'SlowDown' || code.startsWith('Throttling');
}

/** Keys that were changed or have run out: reading them again may help, once. */
export function isAboutKeys({ code }: Failure): boolean {
  return /^(ExpiredToken|TokenRefreshRequired|InvalidAccessKeyId|InvalidToken|SignatureDoesNotMatch|RequestExpired|XAdminUserNotFound)$/.test(
    code,
  );
}

/** The same, or an answer to a HEAD, which has no room to say so. */
export function mayBeAboutKeys(failure: Failure): boolean {
  return isAboutKeys(failure) || (failure.status === 403 && /^Unknown/.test(failure.code));
}

/** Whether the object, or this version of it, is not there. A version that is a marker of a deletion is answered with 405. */
export function isMissing(failure: Failure): boolean {
  if (failure.status === 405) return failure.code === 'MethodNotAllowed';
  return failure.status === 404 && /^(NoSuchKey|NoSuchVersion|NotFound|UnknownError|Unknown)$/.test(failure.code);
}

/** Whether the host was not even reached, so that the request did nothing. */
export function isUnreached({ status, code }: Failure): boolean {
  return status === 0 && /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)$/.test(code);
}

/** A failure of this side, before anything is sent: of credentials and of configuration, and programs' mistakes. */
function isLocal(code: string): boolean {
  // ERR_… are Node's own for wrong arguments, HPE_… for answers that are no HTTP.
  return !/^(?:E(?!RR_)[A-Z_]+|HPE_\w+|WrongAnswer)$/.test(code);
}

/** An answer that is not what was asked for: treated as a connection that broke. */
export function wrongAnswer(what: string): Error {
  return Object.assign(new Error(`it gave ${what}`), { code: 'WrongAnswer' });
}

/** What took too long. */
export function timedOut(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}

/** Why a signal was aborted. */
export function abortReason({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
