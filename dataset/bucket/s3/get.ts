import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { ConflictError, CorruptError, InvalidError, NotFoundError, UnavailableError } from '../../errors.ts';
import type { BucketObject, GetOptions, Into, ObjectInfo } from '../bucket.ts';
import { checkOf } from './check.ts';
import { failureOf, isMissing, wrongAnswer } from './failure.ts';
import type { GetBody } from './get-body.ts';
import { onHeaders, withHeaders } from './headers.ts';
import type { WireAside } from './http.ts';
import { Inflow, ownMemory } from './inflow.ts';
import type { Limiter } from './limiter.ts';
import { infoOf, quoted } from './object-info.ts';
import type { Requester } from './requester.ts';
import { isTombstone } from './tombstone.ts';

/** A body up to this size, in bytes, is read at once: it holds no connection while its reader does something else. */
const AT_ONCE_BYTES = 256 * 1024;
/** How often a body is asked for whose checksum is wrong. */
const DAMAGED_TRIES = 3;

export interface Target {
  readonly bucket: string;
  /** In full. */
  readonly key: string;
  /** For messages: the key as the caller has it, and where. */
  readonly name: string;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** An answer to a GET that is what was asked for. */
interface Opened {
  readonly info: ObjectInfo;
  readonly range: Range;
  readonly bytes: GetBody;
  readonly headers: Readonly<Record<string, string>>;
}

export async function getObject(requester: Requester, target: Target, options: GetOptions): Promise<BucketObject> {
  const { signal, into, checked = false } = options;
  using _ = await requester.limiter.enter(signal);
  for (let tries = 1; ; tries++) {
    const opened = await open(requester, target, options);
    const { length } = opened.range;
    const check = options.range === undefined ? checkOf(opened.headers) : undefined;
    if (length > AT_ONCE_BYTES || (into !== undefined && check === undefined)) {
      const reader = new Reader(requester, target, options, opened, checked ? undefined : check, into);
      return { ...opened.info, body: taken(reader, requester.limiter, signal) };
    }
    try {
      const parts: Buffer[] = [];
      const reader = new Reader(requester, target, options, opened, check);
      for await (const part of reader.blocks) parts.push(part);
      return { ...opened.info, body: given(parts) };
    } catch (error) {
      // The bytes may have been changed on their way: nobody has seen them yet.
      if (!(error instanceof CorruptError) || tries === DAMAGED_TRIES) throw error;
    }
  }
}

/** Also tells of a tombstone, by its metadata. */
export async function headObject(
  requester: Requester,
  { bucket, key }: Target,
  signal: AbortSignal | undefined,
): Promise<(ObjectInfo & { readonly metadata: Readonly<Record<string, string>> }) | undefined> {
  const { HeadObjectCommand } = await import('@aws-sdk/client-s3');
  return await requester.send(
    { kind: 'head', key },
    async (client, abortSignal) => {
      const answer = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal });
      return { ...infoOf(answer, answer.ContentLength ?? 0), metadata: answer.Metadata ?? {} };
    },
    { signal, meaning: async (failure) => (isMissing(failure) ? { value: undefined } : undefined) },
  );
}

/** For those who have a place among the requests in flight. */
async function open(requester: Requester, target: Target, options: GetOptions): Promise<Opened> {
  const { GetObjectCommand } = await import('@aws-sdk/client-s3');
  const { bucket, key } = target;
  const { range, ifMatch, version, signal } = options;
  return await requester.send(
    { kind: 'get', key },
    async (client, abortSignal) => {
      const command = new GetObjectCommand({
        Bucket: bucket,
        Key: key,
        ...(range === undefined ? {} : { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` }),
        ...(ifMatch === undefined ? {} : { IfMatch: quoted(ifMatch) }),
        ...(version === undefined ? {} : { VersionId: version }),
      });
      let headers: Readonly<Record<string, string>> = {};
      onHeaders(command, (all) => {
        headers = all;
      });
      let bytes: GetBody | undefined;
      const aside: WireAside & { readonly abortSignal: AbortSignal | undefined } = {
        abortSignal,
        onBody: (body) => {
          bytes?.destroy();
          bytes = body;
        },
      };
      try {
        const answer = await client.send(
          range === undefined ? withHeaders(command, { 'x-amz-checksum-mode': 'ENABLED' }) : command,
          aside,
        );
        if (isTombstone(answer.Metadata)) throw absent(target, version, undefined);
        if (bytes === undefined) throw wrongAnswer('no body');
        return openedOf(target, range, answer, headers, bytes);
      } catch (error) {
        bytes?.destroy();
        throw error;
      }
    },
    {
      signal,
      placed: true,
      meaning: async (failure) => {
        const { status, headers } = failure;
        const facts = { bucket, key };
        if (status === 412)
          return new ConflictError(`${target.name} was changed or removed by someone else`, {
            cause: failure.cause,
            facts,
          });
        if (status === 416) return outside(target, range!, sizeOf(headers['content-range']));
        if (isMissing(failure)) return absent(target, version, failure.cause);
        return undefined;
      },
    },
  );
}

/** Checks that the answer is what was asked for; a store or a proxy that gives another range must not go unseen. */
function openedOf(
  target: Target,
  range: Range | undefined,
  answer: GetObjectCommandOutput,
  headers: Readonly<Record<string, string>>,
  bytes: GetBody,
): Opened {
  const length = answer.ContentLength;
  if (range === undefined) {
    if (length === undefined || answer.ContentRange !== undefined)
      throw wrongAnswer('no length, or a part of the object');
    return { info: infoOf(answer, length), range: { offset: 0, length }, bytes, headers };
  }
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.ContentRange ?? '') ?? [];
  if (total === undefined)
    throw wrongAnswer(`no range, where ${range.length} bytes from ${range.offset} were asked for`);
  const size = Number(total);
  if (range.offset + range.length > size) throw outside(target, range, size);
  if (
    Number(first) !== range.offset ||
    Number(last) !== range.offset + range.length - 1 ||
    (length !== undefined && length !== range.length)
  )
    throw wrongAnswer(
      `the range ${answer.ContentRange}, where ${range.length} bytes from ${range.offset} were asked for`,
    );
  return { info: infoOf(answer, size), range, bytes, headers };
}

/** Reads a body, ahead of whoever asks for its blocks as far as there is memory. Where it breaks off, it goes on from there in the same object. */
class Reader {
  readonly blocks: AsyncGenerator<Buffer>;
  readonly #inflow: Inflow;

  constructor(
    requester: Requester,
    target: Target,
    options: GetOptions,
    opened: Opened,
    check: ReturnType<typeof checkOf>,
    into?: Into,
  ) {
    const { length } = opened.range;
    const own = into === undefined ? ownMemory(length) : undefined;
    this.#inflow = new Inflow(own?.into ?? into!, length);
    this.#inflow.from(opened.bytes);
    this.blocks = read({ requester, target, options, opened, check, inflow: this.#inflow, onTaken: own?.taken });
  }

  /** Gives the connection back, also before anything was read. */
  close(): void {
    this.#inflow.close();
  }
}

interface Reading {
  readonly requester: Requester;
  readonly target: Target;
  readonly options: GetOptions;
  readonly opened: Opened;
  readonly check: ReturnType<typeof checkOf>;
  readonly inflow: Inflow;
  readonly onTaken: ((bytes: number) => void) | undefined;
}

async function* read({ requester, target, options, opened, check, inflow, onTaken }: Reading): AsyncGenerator<Buffer> {
  const { signal } = options;
  const { info, range } = opened;
  const count = requester.meter.of('get');
  let done = 0;
  for (let failures = 0; ; ) {
    const before = done;
    try {
      for (let block = await inflow.next(); block !== undefined; block = await inflow.next()) {
        signal?.throwIfAborted();
        done += block.length;
        count.bytes += block.length;
        onTaken?.(block.length);
        check?.update(block);
        if (done === range.length) checkNow(target, check);
        yield block;
      }
      if (done === range.length || inflow.isClosed) return;
      throw Object.assign(new Error(`${done} of ${range.length} bytes came`), { code: 'ECONNRESET' });
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof CorruptError || done === range.length) throw error;
      failures = done > before ? 1 : failures + 1;
      count.errors += 1;
      if (failures >= requester.attempts) throw brokenOff(target, range, done, error);
    }
    await requester.pause(failures, signal);
    count.retries += 1;
    const rest = { offset: range.offset + done, length: range.length - done };
    try {
      const { bytes } = await open(requester, target, {
        range: rest,
        ifMatch: info.etag,
        ...((options.version ?? info.version) === undefined ? {} : { version: options.version ?? info.version! }),
        ...(signal === undefined ? {} : { signal }),
      });
      inflow.from(bytes);
    } catch (error) {
      // Who required this very object hears that it changed; who did not may just read it anew.
      if (options.ifMatch !== undefined || !(error instanceof ConflictError || error instanceof NotFoundError))
        throw error;
      throw new UnavailableError(`${target.name} was changed or removed while it was read`, {
        cause: error,
        facts: { bucket: target.bucket, key: target.key },
      });
    }
  }
}

/**
 * A body that has a place among the requests in flight only while somebody waits for its bytes: a reader that asks the store for
 * something else between two blocks cannot keep itself from getting it. Gives the connection back when it is done, or left early,
 * also before it began.
 */
function taken(reader: Reader, limiter: Limiter, signal: AbortSignal | undefined): AsyncIterableIterator<Buffer> {
  const { blocks } = reader;
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        using _ = await limiter.enter(signal);
        const result = await blocks.next();
        if (result.done) reader.close();
        return result;
      } catch (error) {
        reader.close();
        throw error;
      }
    },
    async return() {
      // Before anything is awaited: the memory may be used again at once.
      reader.close();
      return await blocks.return(undefined);
    },
  };
}

async function* given(parts: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* parts;
}

function checkNow(target: Target, check: ReturnType<typeof checkOf>): void {
  const fault = check?.fault();
  if (fault !== undefined)
    throw new CorruptError(`${target.name} is not what was stored: ${fault}`, {
      facts: { bucket: target.bucket, key: target.key },
    });
}

function absent({ name, bucket, key }: Target, version: string | undefined, cause: unknown): NotFoundError {
  return new NotFoundError(`there is no ${name}${version === undefined ? '' : ` in version ${version}`}`, {
    cause,
    facts: { bucket, key },
  });
}

function sizeOf(contentRange: string | undefined): number | undefined {
  const size = /^bytes \*\/(\d+)$/.exec(contentRange ?? '')?.[1];
  return size === undefined ? undefined : Number(size);
}

function outside(target: Target, { offset, length }: Range, size: number | undefined): InvalidError {
  const has = size === undefined ? 'is too short for' : `has ${size} bytes, none of`;
  return new InvalidError(`${target.name} ${has} ${length} from ${offset}`, {
    facts: { bucket: target.bucket, key: target.key, size, offset, length },
  });
}

function brokenOff(target: Target, range: Range, done: number, error: unknown): UnavailableError {
  const { code, message } = failureOf(error);
  return new UnavailableError(
    `${target.name} broke off after ${done} of ${range.length} bytes, again and again (${code}: ${message})`,
    { cause: error, facts: { bucket: target.bucket, key: target.key } },
  );
}
