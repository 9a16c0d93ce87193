import { channel } from 'node:diagnostics_channel';
import type { Digest } from '../dataset/digest.ts';

/**
 * What a cache tells of itself, for who counts, traces or logs it: channels of node:diagnostics_channel, which cost nothing while
 * nobody listens. They are published on the main thread. Every event names the cache's directory, since a process may have several.
 */
export interface CacheEvents {
  /** Somebody waited for an object, and how that ended. */
  readonly missed: {
    readonly cache: string;
    readonly id: Digest;
    /** Where it was looked up, as far as that came. */
    readonly repository?: string;
    readonly version?: Digest;
    readonly bytes?: number;
    readonly outcome: 'ready' | 'absent' | 'stream' | 'failed' | 'abandoned';
    readonly error?: unknown;
    /** By `performance.now()`; each is there if the miss came so far. */
    readonly began: number;
    readonly located?: number;
    /** The job that brings it was started. */
    readonly started?: number;
    readonly ended: number;
  };
  /** A read of a bucket, or of a neighbour that stands for it, has ended. */
  readonly fetched: {
    readonly cache: string;
    readonly repository: string;
    readonly from: 'bucket' | 'neighbour' | 'source';
    readonly bytes: number;
    readonly milliseconds: number;
    readonly failed: boolean;
  };
  /** Bytes that a reader got through the ring rather than from a file. */
  readonly streamed: { readonly cache: string; readonly id: Digest; readonly bytes: number };
  readonly evicted: { readonly cache: string; readonly objects: number; readonly bytes: number };
  /** A damaged object was found and put aside. */
  readonly damaged: { readonly cache: string; readonly id: Digest; readonly by: 'scrub' | 'verify' | 'read' };
  /** A damaged object was brought again. */
  readonly healed: { readonly cache: string; readonly id: Digest };
}

export type CacheEvent = keyof CacheEvents;

/** Tells whoever listens. */
export function publish<E extends CacheEvent>(event: E, message: CacheEvents[E]): void {
  const to = channel(nameOf(event));
  if (to.hasSubscribers) to.publish(message);
}

/** Calls `hear` for each event from now on. @returns what ends it */
export function subscribe<E extends CacheEvent>(event: E, hear: (message: CacheEvents[E]) => void): () => void {
  const from = channel(nameOf(event));
  const listener = (message: unknown) => hear(message as CacheEvents[E]);
  from.subscribe(listener);
  return () => {
    from.unsubscribe(listener);
  };
}

function nameOf(event: CacheEvent): string {
  return `larder:cache:${event}`;
}
