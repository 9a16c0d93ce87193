import { randomUUID } from 'node:crypto';
import { InvalidError } from '../errors.ts';
import type { Body, BucketObject, GetOptions, ListedObject, ListOptions, ObjectInfo, PutOptions } from './bucket.ts';
import { validateKey } from './keys.ts';
import type { MeteredBucket, Requests } from './metrics.ts';
import { PROBES } from './prove-conditions.ts';
import { deleteByTombstone, deleteObject, keepsConditionalDelete } from './s3/delete.ts';
import { getObject, headObject, type Target } from './s3/get.ts';
import { listObjects } from './s3/list.ts';
import type { S3Location } from './s3/location.ts';
import { putObject, type WriteOptions } from './s3/put.ts';
import { Requester, type Retries } from './s3/requester.ts';
import { isTombstone } from './s3/tombstone.ts';
import type { Timeouts } from './s3/wire-options.ts';

export interface S3Settings {
  readonly retries?: Retries;
  readonly timeouts?: Partial<Timeouts>;
  /** Between 0 and 1: how long waits before another attempt are. */
  readonly random?: () => number;
  /** Larger objects are sent in parts, in bytes; a store limits one request to 5 GiB. */
  readonly largest?: number;
  /** Of a part, in bytes; a store wants 5 MiB at least. */
  readonly part?: number;
}

const LARGEST_BYTES = 64 * 1024 * 1024;
const PART_BYTES = 16 * 1024 * 1024;

/**
 * A bucket and prefix in an object store that speaks S3. Nothing is asked of it until the first call. A key that is read may be any;
 * one that is written is as in every bucket.
 */
export function s3Bucket(location: S3Location, settings: S3Settings = {}): MeteredBucket {
  return new S3Bucket(location, settings);
}

class S3Bucket implements MeteredBucket {
  readonly name: string;
  readonly #bucket: string;
  /** Before every key. */
  readonly #prefix: string;
  readonly #requester: Requester;
  readonly #writes: WriteOptions;
  #conditionalDelete: Promise<boolean> | undefined;

  constructor(location: S3Location, settings: S3Settings) {
    const { bucket, prefix, options } = location;
    this.#bucket = bucket;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.name = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
    this.#requester = new Requester(location, settings);
    this.#writes = { storage: options, largest: settings.largest ?? LARGEST_BYTES, part: settings.part ?? PART_BYTES };
  }

  get requests(): Requests {
    return this.#requester.meter.requests;
  }

  async get(key: string, options: GetOptions = {}): Promise<BucketObject> {
    return await getObject(this.#requester, this.#target(key), options);
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const found = await headObject(this.#requester, this.#target(key), signal);
    if (found === undefined || isTombstone(found.metadata)) return undefined;
    const { metadata: _, ...info } = found;
    return info;
  }

  async put(key: string, body: Body, options: PutOptions = {}): Promise<string> {
    return await putObject(this.#requester, this.#target(validateKey(key)), body, options, this.#writes);
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const { after } = options;
    const full = { ...options, ...(after === undefined ? {} : { after: this.#prefix + after }) };
    for await (const object of listObjects(this.#requester, this.#bucket, this.#prefix + prefix, full))
      yield this.#prefix === '' ? object : { ...object, key: object.key.slice(this.#prefix.length) };
  }

  async delete(key: string, options: { readonly ifMatch?: string; readonly signal?: AbortSignal } = {}): Promise<void> {
    const target = this.#target(validateKey(key));
    const { ifMatch, signal } = options;
    if (ifMatch === undefined || (await this.#deletesConditionally(signal)))
      await deleteObject(this.#requester, target, options);
    else await deleteByTombstone(this.#requester, target, { ifMatch, signal }, this.#writes);
  }

  async close(): Promise<void> {
    this.#requester.close();
  }

  #target(key: string): Target {
    // That would be the bucket itself.
    if (this.#prefix + key === '') throw new InvalidError('an object has a key', { facts: { bucket: this.#bucket } });
    return { bucket: this.#bucket, key: this.#prefix + key, name: `${key} in ${this.name}` };
  }

  /** Tried out once, before the first conditional delete. */
  async #deletesConditionally(signal: AbortSignal | undefined): Promise<boolean> {
    const probe = this.#target(`${PROBES}delete-${randomUUID()}`);
    this.#conditionalDelete ??= keepsConditionalDelete(this.#requester, probe, this.#writes, signal);
    const answer = this.#conditionalDelete;
    try {
      return await answer;
    } catch (error) {
      // What could not be tried out is tried again.
      if (this.#conditionalDelete === answer) this.#conditionalDelete = undefined;
      throw error;
    }
  }
}
