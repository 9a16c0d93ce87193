import { mkdirSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cache, openCache } from '../cache/cache.ts';
import { type Capacity, createCapacity, type Making } from '../cache/capacity.ts';
import { createHydrator, type Hydrator } from '../cache/hydrate.ts';
import { type CacheIndex, openIndex } from '../cache/index.ts';
import { type KnownVersions, openKnownVersions } from '../cache/known-versions.ts';
import type { Neighbours } from '../cache/neighbours/neighbours.ts';
import { createRoom, openRoom } from '../cache/room.ts';
import type { StagedSource } from '../cache/segment-reader.ts';
import type { SpaceLimits } from '../cache/space-limits.ts';
import { createStreams, type Streams } from '../cache/stream/streams.ts';
import type { VerityChoice } from '../cache/verity-choice.ts';
import type { VersionBook } from '../cache/victims.ts';
import type { Digest } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { type KeptRing, openKeptRing } from '../mount/keeper-ring.ts';
import { mountAt } from '../mount/mount-table.ts';
import { releaseDentries } from '../mount/release-dentries.ts';
import { aboutVersion } from './about-version.ts';
import { createEventLog, type EventLog } from './event-log.ts';
import type { Logger } from './log.ts';
import { type NeighbourSettings, startNeighbours } from './neighbours.ts';
import { type RuntimePaths, runtimePaths } from './paths.ts';
import { createReach, type Reach } from './reach.ts';
import { createRecovery, type Recovery } from './recovery.ts';
import { accessWithin, createRepositories, type Repositories } from './repositories.ts';
import { createResolver } from './resolve.ts';
import type { Rights } from './rights.ts';
import type { Registry } from './saves/leases.ts';
import type { Saves } from './saves/saves.ts';
import type { Care } from './scrub.ts';
import { createVolumes, type Volumes } from './service.ts';
import type { NodeSnapshots } from './snapshots/snapshots.ts';
import { createStageMaps } from './stage-maps.ts';
import { createStagePrefetches, type StagePrefetches } from './stage-prefetch.ts';
import { createStagedVersions, type StagedVersions } from './staging.ts';
import { createVersionBook } from './version-book.ts';

/** Everything that one node's daemon holds, joined: the cache, the ring that asks it, and the volumes on both. */
export interface Node extends AsyncDisposable {
  readonly paths: RuntimePaths;
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly known: KnownVersions;
  readonly book: VersionBook;
  readonly capacity: Capacity;
  readonly hydrator: Hydrator;
  readonly streams: Streams;
  readonly ring: KeptRing;
  readonly repositories: Repositories;
  readonly reach: Reach;
  /** Undefined where this node asks no others. */
  readonly neighbours: Neighbours | undefined;
  readonly versions: StagedVersions;
  readonly volumes: Volumes;
  /** What becomes of the changes to workspaces. */
  readonly saves: Saves;
  /** Undefined where this daemon has nothing to do with volumes' records. */
  readonly snapshots: NodeSnapshots | undefined;
  readonly prefetches: StagePrefetches;
  readonly care: Care;
  readonly events: EventLog;
  /** Rejects when the ring ended under the daemon: nothing that is missing can come any more, and a new daemon must be started. */
  readonly failed: Promise<never>;
  /** Lets go of everything; mounts stay, for the next daemon. */
  close(): Promise<void>;
}

export interface NodeOptions {
  /** LARDER_RUNTIME. */
  readonly runtime: string;
  /** LARDER_CACHE. */
  readonly cache: string;
  /** How long an open waits for its object before it ends with EIO, in milliseconds. */
  readonly deadline?: number;
  /** An object that is larger, in bytes, is read while it is fetched. */
  readonly streamOver?: number;
  /** For pieces of objects that the cache has no room for, in bytes. */
  readonly streamMemory?: number;
  /** What the cache may take, and what it leaves free. */
  readonly limits?: SpaceLimits;
  readonly neighbours?: NeighbourSettings | undefined;
  /** How fast cached objects are read in the background to be checked, in bytes a second; 0: not at all. */
  readonly scrubRate?: number;
  readonly verity?: VerityChoice;
  /** Whether opens of files that are streamed may be passed through to them once they are whole; the default is yes. */
  readonly passthrough?: boolean;
  /** Whether what seems to come next is fetched before it is opened; the default is yes. */
  readonly readAhead?: boolean;
  /** Who may use which dataset; without it, everyone may. */
  readonly rights?: Rights | undefined;
  /** How workspaces with a record in a repository are taken and saved; without it, they are served as others are. */
  readonly registry?: Registry;
  /** How often such a workspace is saved that says nothing itself, in milliseconds; 0: when it is unstaged. */
  readonly autosave?: number;
  readonly log: Logger;
}

export const DEFAULT_DEADLINE = 60_000;

/** How long at most a daemon that starts does nothing but serve, in milliseconds. */
const SERVE_FIRST = 1_000;

/** What hydrating may hold at a time, in bytes: with it, the daemon stays below 200 MB. It is enough for the most packs of small files. */
const HYDRATE_MEMORY = 64 * 2 ** 20;

/** A repository whose files the hydrator's threads can read themselves. */
function isDirectory({ location }: Repository): boolean {
  return location.startsWith('/');
}

export async function openNode(options: NodeOptions): Promise<Node> {
  const { deadline = DEFAULT_DEADLINE, streamOver, streamMemory, log } = options;
  mkdirSync(options.runtime, { recursive: true, mode: 0o700 });
  // As the mount table has it, which is asked what is mounted where.
  const paths = runtimePaths(realpathSync.native(options.runtime));
  // The ring of a daemon that died is not looked into: that would wait, or fail.
  if (mountAt(paths.ring) === undefined) mkdirSync(paths.ring, { recursive: true, mode: 0o700 });
  await using stack = new AsyncDisposableStack();
  const cache = stack.use(
    await openCache({
      directory: options.cache,
      verity: options.verity ?? 'auto',
      onWarning: (text) => log.warn(text),
    }),
  );
  for (const folder of [cache.layout.images, cache.layout.workspaces, paths.staged]) sweepTemporaries(folder);
  const begun = Promise.withResolvers<void>();
  const index = stack.use(openIndex(cache, { after: begun.promise }));
  const known = openKnownVersions(cache.layout);
  const maps = stack.use(createStageMaps(cache.layout));
  const room = createRoom();
  let capacity: Capacity | undefined;
  let neighbours: Neighbours | undefined;
  const makeRoom = async (bytes: number): Promise<boolean> => {
    neighbours?.release(bytes);
    return (await capacity?.makeRoom(bytes)) ?? false;
  };
  const making: Making = async (what, bytes, make) => {
    if (openRoom(room).bytes < bytes) neighbours?.release(bytes);
    return await capacity!.making(what, bytes, make);
  };
  const hydrator = stack.use(
    createHydrator({
      cache,
      patience: deadline,
      streamOver,
      readDirectly: isDirectory,
      memory: HYDRATE_MEMORY,
      ...(options.readAhead !== undefined && { readAhead: options.readAhead }),
      room,
      makeRoom,
    }),
  );
  // A thread takes as long to start as all that follows.
  if (readdirSync(paths.staged).length > 0) hydrator.crew.prepare();
  const streams = stack.use(
    createStreams({
      cache,
      crew: hydrator.crew,
      locate: hydrator.locate,
      isStaged: hydrator.knows,
      room,
      makeRoom,
      patienceOf: hydrator.patienceOf,
      rateOf: hydrator.rateOf,
      memory: streamMemory,
      onWarning: (text) => log.warn(text, { repeats: 'stream' }),
    }),
  );
  if (options.neighbours) {
    neighbours = stack.use(await startNeighbours(options.neighbours, { cache, room: openRoom(room), log }));
  }
  const repositories = stack.adopt(
    createRepositories({ access: accessWithin(deadline), share: neighbours?.share }),
    (opened) => opened.close(),
  );
  const versions = createStagedVersions({ cache, hydrator, known, paths, maps, making });
  const prefetches = stack.use(createStagePrefetches({ hydrator, versions, repositories, log }));
  const reach = createReach(repositories.at);
  const volumes = createVolumes({
    cache,
    versions,
    paths,
    repositories,
    making,
    prefetches,
    reach,
    rights: options.rights,
    ...(options.registry !== undefined && { registry: options.registry }),
    ...(options.autosave !== undefined && { autosave: options.autosave }),
    facts: async () => ({ freeBytes: await freeBytes(cache, capacity) }),
    log,
  });
  const about = (version: string) => aboutVersion({ known, volumes }, version);
  const versionOf = (id: string) => versions.sources().find(({ map }) => map.has(id as Digest))?.version;
  const events = stack.use(createEventLog({ log, cache: cache.layout.directory, about, versionOf }));
  const recovery = stack.use(createRecovery(log));
  const ring = await openKeptRing({
    target: paths.ring,
    socket: paths.keeperSocket,
    ...createResolver({ recovery, cache, hydrator, streams }),
    deadline,
    deadlineOf: (id) => hydrator.patienceOf(id as Digest),
    ...(options.passthrough !== undefined && { passthrough: options.passthrough }),
    onFailure: events.onFailure,
    onEvent: (event) => log.info(event),
  });
  const book = createVersionBook({ known, versions, maps, repositories });
  capacity = stack.use(
    createCapacity({
      cache,
      index,
      book,
      room,
      limits: options.limits,
      after: begun.promise,
      partialBytes: () => streams.stats().diskBytes,
      release: releaseDentries,
      isIdle: () => hydrator.stats().running + streams.stats().fetches.running === 0,
      onWarning: (text) => log.warn(text, { repeats: 'capacity' }),
    }),
  );
  await capacity.ready;
  // A ring without mounts on it is of no use to the next daemon.
  stack.defer(() => (volumes.records.all().length === 0 ? ring.remove() : ring.leave()));
  // Mounts that cannot ask any more get what they lack.
  const onTakenUp = ring.how === 'replaced' ? healer(versions, hydrator, log) : undefined;
  await volumes.recover({ log, recovery, onTakenUp });
  // Before all that it needs, and before the mounts of workspaces are let go of.
  stack.use(volumes.saves);
  recovery.begun();
  await untilServed(recovery, ring);
  begun.resolve();
  volumes.saves.adopt();
  const snapshots = options.registry && stack.use(await startSnapshots(options.registry.node, volumes, cache, log));
  if (options.registry) stack.use(await watchSettings({ volumes, versions, prefetches, log }));
  const { startCare } = await import('./scrub.ts');
  const { scrubRate } = options;
  const care = stack.use(startCare({ cache, index, hydrator, known, versions, maps, repositories, log, scrubRate }));
  const failed = ring.server.ended.then((end): Promise<never> => {
    if (end === 'stopped') return new Promise(() => {});
    throw new UnavailableError(`the ring at ${paths.ring} was ${end} under the daemon: start it again`);
  });
  // Whoever runs the daemon waits for it; a test that does not is not failed by it.
  failed.catch(() => {});
  const held = stack.move();
  const close = () => held.disposeAsync();
  return {
    paths,
    cache,
    index,
    known,
    book,
    capacity,
    hydrator,
    streams,
    ring,
    repositories,
    reach,
    neighbours,
    versions,
    volumes,
    saves: volumes.saves,
    snapshots,
    prefetches,
    care,
    events,
    failed,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * Those who wait since an earlier daemon are served before anything is loaded or looked at that they do not need. Not for ever: their
 * repository may be away.
 */
async function untilServed(recovery: Recovery, ring: KeptRing): Promise<void> {
  const end = performance.now() + SERVE_FIRST;
  while ((recovery.pending > 0 || ring.server.counters().held > 0) && performance.now() < end) await sleep(5);
}

async function startSnapshots(node: string, volumes: Volumes, { layout }: Cache, log: Logger): Promise<NodeSnapshots> {
  const { createNodeSnapshots } = await import('./snapshots/snapshots.ts');
  return createNodeSnapshots({ node, volumes, saves: volumes.saves, images: layout.workspaces, log });
}

async function watchSettings(parts: Pick<Node, 'volumes' | 'versions' | 'prefetches'> & { readonly log: Logger }) {
  const { createSettingsWatch } = await import('./volumes/settings-watch.ts');
  const { records, lock, saves } = parts.volumes;
  const settingsAt = async (location: string) => (await saves.membership(location)).ledger.settings;
  return createSettingsWatch({ ...parts, records, lock, saves, settingsAt });
}

/** Room for workspaces' changes, which objects of the cache make way for but images do not. */
async function freeBytes({ layout }: Cache, capacity: Capacity | undefined): Promise<number> {
  const { bavail, bsize } = await statfs(layout.directory);
  return Math.max(0, Math.floor(bavail * bsize - (capacity?.stats().minFree ?? 0)));
}

/** Removes what a killed daemon was writing under a temporary name; its successor has the cache to itself. */
function sweepTemporaries(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) {
    if (/\.(tmp|new|clone)$/.test(name)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/**
 * Mounts of an earlier daemon that no keeper held cannot ring any more: what they lack is brought before anyone asks. Until it
 * is there, opening it fails.
 */
function healer(versions: StagedVersions, hydrator: Hydrator, log: Logger): (version: Digest) => void {
  const begun = new Set<StagedSource>();
  return (taken) => {
    const source = versions.sources().find(({ version }) => version === taken);
    if (source === undefined || begun.has(source)) return;
    begun.add(source);
    const { version } = source;
    const about = { version, repository: source.repository.location };
    log.warn(`no keeper had the ring: bringing all of version ${version.slice(0, 12)}, whose mounts cannot ask`, about);
    // What was streamed is remembered as a file of the old ring, which nobody serves: the mounts must look for it anew.
    const bring = () => hydrator.prefetch(source).finally(releaseDentries);
    bring().catch((error) => {
      log.error(`version ${version.slice(0, 12)} is not whole: ${(error as Error).message}`, { ...about, error });
    });
  };
}
