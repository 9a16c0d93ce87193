/**
 * Where a repository's objects are: an S3 bucket and prefix, or a directory. Keys are `/`-separated ASCII, and no key is another
 * key's folder. Layers (retry, limits, metrics) implement the same interface and wrap another.
 *
 * Errors: NotFoundError for a missing key, ConflictError for a condition that does not hold, UnavailableError for what may
 * succeed later; each names the key.
 */
export interface Bucket {
  /** For messages: a path or an `s3://` URL. */
  readonly name: string;

  /** The object's bytes, or `range` of them. A range that does not lie wholly inside the object is an InvalidError. */
  get(key: string, options?: GetOptions): Promise<BucketObject>;

  /** What a `get` would return, without the bytes; undefined where there is no such object. */
  head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined>;

  /**
   * Stores an object whole or not at all; it is durable when the promise resolves. Without a condition it replaces.
   * @returns the new object's ETag
   */
  put(key: string, body: Body, options?: PutOptions): Promise<string>;

  /** Every object whose key starts with `prefix`, in byte order of the keys. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject>;

  /** Removes an object; that it is not there is no error. With `ifMatch`, only if it is unchanged. */
  delete(key: string, options?: { readonly ifMatch?: string; readonly signal?: AbortSignal }): Promise<void>;

  close(): Promise<void>;
}

export interface GetOptions {
  /** In bytes; `length` is at least 1. */
  readonly range?: { readonly offset: number; readonly length: number };
  /** Only if the object still has this ETag; a ConflictError where it has another. */
  readonly ifMatch?: string;
  /** This version of the object, where the store keeps versions; others ignore it. */
  readonly version?: string;
  readonly signal?: AbortSignal;
  /**
   * Memory that the body's bytes go to, for a reader that has some to use again. A bucket that takes it puts them in as they come, while the reader is
   * busy too, and the body's blocks are views of it, in the order of the bytes: where it lies is not changed before the reader gives it
   * out again. One that has bytes of its own gives those, and asks for no memory.
   */
  readonly into?: Into;
  /** The reader compares the bytes with a digest: they need no other check on their way to it. */
  readonly checked?: boolean;
}

/** Gives the next free piece of memory, of at least one byte; a promise where there is none now. Each is filled to its end before the next is asked for. */
export type Into = () => Uint8Array | Promise<Uint8Array>;

export interface ObjectInfo {
  /** The whole object's size in bytes. */
  readonly size: number;
  /** Opaque; changes whenever the object's bytes do. The same bytes may have the same one again. */
  readonly etag: string;
  readonly modified: Date;
  /** The version's id, where the store keeps versions of this object. */
  readonly version?: string;
}

export interface BucketObject extends ObjectInfo {
  /** The bytes asked for, in order. Must be read to its end or returned early (`break`), or its connection is held. */
  readonly body: AsyncIterable<Buffer>;
}

export interface ListedObject extends ObjectInfo {
  readonly key: string;
}

/** Buffers are written in order without being joined. */
export type Body = Uint8Array | readonly Uint8Array[];

export interface PutOptions {
  /** `absent`: only if there is no such object. `{ etag }`: only if it is still the one with this ETag. */
  readonly condition?: 'absent' | { readonly etag: string };
  readonly signal?: AbortSignal;
}

export interface ListOptions {
  /** Only keys after this one, in byte order. */
  readonly after?: string;
  /** Asks for version ids too, where the store keeps versions. It costs a slower listing. */
  readonly versions?: boolean;
  readonly signal?: AbortSignal;
}
