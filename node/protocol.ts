import type { SpaceAmount } from '../cache/space-limits.ts';
import type { Digest } from '../dataset/digest.ts';
import type { ErrorFacts, ErrorKind } from '../dataset/errors.ts';
import type { Health } from './health.ts';
import type { SaveState } from './saves/saves.ts';
import type { NodeState } from './state.ts';
import type { EventCounts } from './stats-types.ts';

/**
 * What the command line and the daemon say to each other: HTTP over the daemon's unix socket, `POST /v1/<method>` with a JSON
 * body; the reply is a line of JSON for each step of progress and one last line with the result or the error.
 */
export interface Methods {
  mount: { request: MountRequest; reply: MountedVolume };
  unmount: { request: UnmountRequest; reply: UnmountReply };
  status: { request: Record<string, never>; reply: NodeStatus };
  stats: { request: Record<string, never>; reply: NodeStats };
  snapshot: { request: SnapshotRequest; reply: SnapshotReply };
  prefetch: { request: PrefetchRequest; reply: PrefetchReply };
  'cache-show': { request: Record<string, never>; reply: CacheContents };
  'cache-pin': { request: NamedVersion; reply: CachePinReply };
  'cache-unpin': { request: NamedVersion; reply: CachePinReply };
  'cache-evict': { request: CacheEvictRequest; reply: CacheEvictReply };
  'cache-limit': { request: CacheLimitRequest; reply: CacheSpace };
  'cache-verify': { request: Record<string, never>; reply: CacheVerifyReply };
}

export type Method = keyof Methods;

/** A version in words: `NAME[@REF]`, in the repository at this location. */
export interface NamedVersion {
  readonly repository: string;
  readonly name: string;
}

export interface MountRequest extends NamedVersion {
  /** Absolute path of an existing directory. */
  readonly directory: string;
  /** Writable: a copy-on-write layer of this capacity in bytes over the version. */
  readonly workspace?: { readonly capacityBytes?: number };
  /** What to fetch once it is mounted, in the background: `all`, or a glob over paths; absent for nothing. */
  readonly prefetch?: string;
}

export interface MountedVolume {
  readonly volume: string;
  readonly kind: VolumeKind;
  readonly directory: string;
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** Of a volume that says what to fetch: `partial` where there was no room for the rest, or some of it is damaged. */
  readonly prefetch?: {
    readonly what: string;
    readonly state: 'fetching' | 'done' | 'partial';
    readonly files: number;
    readonly bytes: number;
    readonly totalFiles?: number;
    readonly totalBytes?: number;
  };
  /** Of a workspace that has a record in its repository. */
  readonly saves?: SaveState;
}

export type VolumeKind = 'pinned' | 'workspace';

export interface UnmountRequest {
  readonly directory: string;
  /** Drop a workspace's changes. Without it they are kept, and mounting the directory as a workspace again finds them. */
  readonly discard?: boolean;
}

export interface UnmountReply {
  readonly directory: string;
  /** False where nothing was mounted there. */
  readonly unmounted: boolean;
  /** Processes that held the mount, which was therefore detached: it goes when they let go. */
  readonly heldBy: readonly string[];
}

export interface SnapshotRequest {
  /** Where the workspace is mounted. */
  readonly directory: string;
  readonly message: string;
  readonly author: string;
  /** A branch to move to the snapshot: it must still be at the workspace's version or at its last snapshot. */
  readonly branch?: string;
  readonly tag?: string;
  readonly meta?: Readonly<Record<string, string>>;
}

export interface SnapshotReply {
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** The version that the workspace was made on, or its last snapshot. */
  readonly parent: Digest;
  /** How long writers waited, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** False where the cache's file system has no reflink and the changes were copied while writers waited. */
  readonly reflink: boolean;
  readonly filesRead: number;
  readonly bytesRead: number;
}

export interface PrefetchRequest extends NamedVersion {
  /** A glob over paths; without one, the whole version. */
  readonly pattern?: string;
}

export interface PrefetchReply {
  readonly dataset: string;
  readonly version: Digest;
  readonly files: number;
  readonly bytes: number;
}

export interface NodeStatus {
  readonly pid: number;
  readonly startedAt: string;
  readonly cache: string;
  readonly runtime: string;
  readonly keeper: boolean;
  readonly keeperPid?: number;
  readonly volumes: readonly MountedVolume[];
  /** Opens that wait in the ring now. */
  readonly waiting: number;
  readonly health: Health;
  readonly state: NodeState;
}

/** Numbers for who asks again and again: counters only grow, rates are the asker's to make. */
export interface NodeStats {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly uptimeSeconds: number;
  readonly process: { readonly residentBytes: number; readonly cpuSeconds: number };
  readonly counts: EventCounts;
  readonly state: NodeState;
  readonly health: Health;
  readonly volumes: readonly MountedVolume[];
}

/** What of something is in the cache: `aloneBytes` is what nothing else has, `sharedBytes` the rest of `cachedBytes`. */
export interface CachedShare {
  readonly cachedFiles: number;
  readonly cachedBytes: number;
  readonly aloneBytes: number;
  readonly sharedBytes: number;
}

export interface CachedVersion extends CachedShare {
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  readonly staged: boolean;
  readonly pinned: boolean;
  /** ISO 8601; absent for one that was never staged here. */
  readonly lastStaged?: string;
  readonly files: number;
  readonly bytes: number;
}

/** A dataset's versions together. */
export interface CachedDataset extends CachedShare {
  readonly repository: string;
  readonly dataset: string;
  /** How many of them the node knows. */
  readonly versions: number;
}

/** In bytes. */
export interface CacheSpace {
  /** Of the cache's directory; absent where the disk alone limits it. */
  readonly limit?: number;
  /** What stays free of the disk. */
  readonly minFree: number;
  /** What the directory takes: objects and everything else. */
  readonly held: number;
  /** What may still be written; negative where there is more than there may be. */
  readonly room: number;
  readonly diskBytes: number;
  readonly diskFree: number;
}

export interface CacheContents extends CacheSpace {
  readonly directory: string;
  readonly objects: number;
  readonly bytes: number;
  /** Objects of no version that the node knows: the first to go. */
  readonly unknownObjects: number;
  readonly unknownBytes: number;
  readonly datasets: readonly CachedDataset[];
  readonly versions: readonly CachedVersion[];
}

/** A limit in words that are not given stays as it is. */
export interface CacheLimitRequest {
  /** `null`: the disk alone. */
  readonly limit?: SpaceAmount | null;
  readonly minFree?: SpaceAmount;
}

export interface CachePinReply {
  readonly dataset: string;
  readonly version: Digest;
  readonly pinned: boolean;
}

export interface CacheEvictRequest {
  /** How much to free, in bytes; without it, everything that may go. */
  readonly bytes?: number;
  /** Only what nothing else has than the versions of this dataset, or than this version. */
  readonly of?: { readonly repository: string; readonly dataset: string } | NamedVersion;
  /** Also what is mounted: it is fetched again when it is read. */
  readonly mounted?: boolean;
  readonly dryRun?: boolean;
}

export interface CacheEvictReply {
  readonly objects: number;
  readonly bytes: number;
  /** By how much the disk's free space grew; absent for a dry run. Others may have written to it, or hold a removed file open. */
  readonly freed?: number;
}

export interface CacheVerifyReply {
  readonly objects: number;
  readonly bytes: number;
  /** Put aside; fetched again when they are wanted. */
  readonly damaged: readonly string[];
  /** Removed: nothing that the node knows tells what they should be. */
  readonly unknown: readonly string[];
}

/** Progress of a long call. */
export interface Progress {
  readonly phase: string;
  readonly files: number;
  readonly bytes: number;
  readonly totalFiles?: number;
  readonly totalBytes?: number;
}

/** One line of a reply. */
export type ReplyLine =
  | { readonly progress: Progress }
  | { readonly result: unknown }
  | { readonly error: { readonly kind?: ErrorKind; readonly message: string; readonly facts?: ErrorFacts } };
