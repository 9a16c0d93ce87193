import { unlink } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import { isErrno } from '../dataset/errors.ts';
import type { Cache } from './cache.ts';
import { heldBytes, type IndexedObject } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import { latePath, objectPath } from './layout.ts';
import { newProgress, type VictimOptions, victims } from './victims.ts';

/** What an eviction would remove, from whom, in the order in which it would go: see `victims`. */
export interface EvictionPlan {
  readonly steps: readonly EvictionStep[];
  readonly objects: number;
  readonly bytes: number;
}

export interface EvictionStep {
  /** Absent: objects of no known version. */
  readonly of?: KnownVersion;
  /** How many go, and their sizes together in bytes. */
  readonly objects: number;
  readonly bytes: number;
  /** False for the last step where a part of it is enough. */
  readonly all: boolean;
}

/** @param options.bytes how much is wanted; everything that may go where it is not said */
export async function planEviction({
  bytes: wanted = Number.POSITIVE_INFINITY,
  ...options
}: VictimOptions & { readonly bytes?: number }): Promise<EvictionPlan> {
  const steps: { of?: KnownVersion; objects: number; bytes: number; all: boolean }[] = [];
  let objects = 0;
  let bytes = 0;
  search: for await (const batch of victims({ ...options, progress: undefined, onEmptied: undefined })) {
    for (const { size } of batch.objects) {
      let step = steps.at(-1);
      if (bytes >= wanted) {
        if (step && step.of?.version === batch.of?.version) step.all = false;
        break search;
      }
      if (!step || step.of?.version !== batch.of?.version) {
        step = { of: batch.of, objects: 0, bytes: 0, all: true };
        steps.push(step);
      }
      step.objects += 1;
      step.bytes += size;
      objects += 1;
      bytes += size;
    }
  }
  return { steps, objects, bytes };
}

export interface Evicted {
  readonly objects: number;
  /** Their sizes together, and what they took on the disk. */
  readonly bytes: number;
  readonly held: number;
  /** That there was no more which may go. */
  readonly exhausted: boolean;
}

export interface EvictOptions extends VictimOptions {
  readonly cache: Cache;
  /** How much is wanted, in bytes on the disk; everything that may go where it is not said. */
  readonly bytes?: number;
  /** Told after each few objects, in bytes on the disk. @returns whether to go on */
  readonly onRemoved?: (held: number) => boolean;
}

/** Objects removed in one turn of the event loop. */
const TURN = 32;

/** Removing a file takes a disk time by its length: larger ones are removed on a thread of libuv's pool. */
const LARGE = 16 * 1024 * 1024;

/** Removes objects in the order of `victims` until there are enough. */
export async function evict({
  cache,
  bytes: wanted = Number.POSITIVE_INFINITY,
  onRemoved,
  progress = newProgress(),
  ...options
}: EvictOptions): Promise<Evicted> {
  const done = { objects: 0, bytes: 0, held: 0 };
  if (wanted <= 0) return { ...done, exhausted: false };
  for await (const { objects } of victims({ ...options, progress })) {
    let turn = 0;
    let heldThisTurn = 0;
    for (const object of objects) {
      if (!(await remove(cache, object))) continue;
      done.objects += 1;
      done.bytes += object.size;
      done.held += heldBytes(object.size);
      heldThisTurn += heldBytes(object.size);
      turn += 1;
      if (done.held >= wanted) {
        onRemoved?.(heldThisTurn);
        return { ...done, exhausted: false };
      }
      if (turn % TURN > 0) continue;
      if (onRemoved?.(heldThisTurn) === false) return { ...done, exhausted: false };
      heldThisTurn = 0;
      await breathe();
    }
    if (onRemoved?.(heldThisTurn) === false) return { ...done, exhausted: false };
  }
  return { ...done, exhausted: progress.interrupted !== true };
}

/** @returns whether it was there */
async function remove(cache: Cache, { id, size }: IndexedObject): Promise<boolean> {
  if (size <= LARGE) return cache.remove(id);
  const present = cache.has(id);
  for (const path of [latePath(cache.layout, id), objectPath(cache.layout, id)]) {
    await unlink(path).catch((error) => {
      if (!isErrno(error, 'ENOENT')) throw error;
    });
  }
  cache.remove(id);
  return present;
}
