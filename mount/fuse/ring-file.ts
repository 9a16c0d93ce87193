/**
 * A file that the ring gives out itself, because it is too large to wait for, or because the cache has no room for it: its reads are
 * answered by whoever made it. The kernel keeps the bytes that it was given as long as it likes, so they must be right.
 */
export interface RingFile {
  /** In bytes; never changes. */
  readonly size: number;
  /**
   * The bytes from `offset` on: exactly `length` of them, or up to the end of the file. A rejection fails this one read with EIO; the
   * next one may succeed. `signal` is aborted when nobody waits for it any more.
   */
  read(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array>;
  /**
   * Path of a plain file that holds all of it, once there is one: asked at each open, which then need not come here any more (FUSE
   * passthrough).
   */
  whole(): string | undefined;
  /** What the reading threads may answer by themselves. */
  readonly local?: LocalBlocks;
  /** No open of the kernel needs it any more. What is opened later is asked for by `reopen`. */
  close(): void;
}

/**
 * A file, sparse or not, and what is right in it. Block `b` holds bytes `b * block` up to `(b + 1) * block` or the end of the file. It may
 * be read by any thread as long as bit `b & 7` of byte `b >> 3` of `present` is set: the owner sets a bit (Atomics.or) after the block is
 * written, and never takes it back. `fd` stays open until `close` was called.
 */
export interface LocalBlocks {
  readonly fd: number;
  /** In bytes. */
  readonly block: number;
  readonly present: SharedArrayBuffer;
}

/**
 * Brings an object. `ready`: late/<2 hex>/<id> is there. `absent`: nothing that is staged has it. A RingFile: read it from me instead.
 * One that nobody waits for any more is closed at once.
 */
export type Resolve = (id: string, signal: AbortSignal) => Promise<'ready' | 'absent' | RingFile>;

/**
 * The file of an id that the ring gave out before, for opens and reads of a node that the kernel still has: after `close`, or by an earlier
 * daemon. An object that is whole by now is a RingFile too, whose `whole` gives its path. Undefined: nothing has it, the open ends with EIO.
 */
export type Reopen = (id: string, signal: AbortSignal) => Promise<RingFile | undefined>;
