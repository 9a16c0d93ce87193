import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../dataset/digest.ts';
import { writeFileAtomic } from '../../system/atomic.ts';

/** A clone of a workspace that a snapshot is made of: kept until its content is in the repository, also while the machine is off. */
export interface KeptClone {
  /** The snapshot's id. */
  readonly snapshot: string;
  /** Names this clone: the snapshot's record tells which counts. */
  readonly cut: string;
  readonly volume: string;
  /** The repository's location. */
  readonly repository: string;
  readonly dataset: string;
  /** The version below the workspace. */
  readonly lower: Digest;
  /** Of the workspace's lease when it was cut. */
  readonly generation: number;
  /** The moment that it shows: ISO 8601, UTC. */
  readonly created: string;
  /** How long writers waited, in milliseconds. */
  readonly pauseMilliseconds: number;
  /** Of a group: the attempt to clone all members together. */
  readonly attempt?: string;
}

/** What a node keeps for snapshots, beside the workspaces' images: the clones, and a note about each. */
export interface KeptClones {
  get(snapshot: string): KeptClone | undefined;
  /** In the order in which they were cut. */
  all(): readonly KeptClone[];
  /** Where a clone of this workspace is to be made for a snapshot. There is none, unless it is noted. */
  place(volume: string, snapshot: string): string;
  fileOf(clone: KeptClone): string;
  /** Notes a clone that was made: from then on it is kept. */
  note(clone: KeptClone): Promise<void>;
  remove(clone: KeptClone): Promise<void>;
}

const CLONE = '.snap';
const NOTE = '.cut';

/**
 * What an earlier daemon kept; clones that it did not come to note, and notes of clones that are gone, are removed.
 * @param directory of the workspaces' images
 */
export function openKeptClones(directory: string): KeptClones {
  const kept = new Map<string, KeptClone>();
  const stemOf = (volume: string, snapshot: string) =>
    `${encodeURIComponent(volume)}.xfs.${encodeURIComponent(snapshot)}`;
  const names = readdirSync(directory);
  const clones = new Set(names.filter((name) => name.endsWith(CLONE)));
  for (const name of names) {
    if (!name.endsWith(NOTE)) continue;
    const clone = name.slice(0, -NOTE.length) + CLONE;
    if (!clones.delete(clone)) rmSync(join(directory, name));
    else {
      const note = JSON.parse(readFileSync(join(directory, name), 'utf8')) as KeptClone;
      kept.set(note.snapshot, note);
    }
  }
  for (const name of clones) rmSync(join(directory, name));
  const path = (volume: string, snapshot: string, end: string) => join(directory, stemOf(volume, snapshot) + end);
  return {
    get: (snapshot) => kept.get(snapshot),
    all: () => [...kept.values()].sort((a, b) => (a.created < b.created ? -1 : 1)),
    place(volume, snapshot) {
      const file = path(volume, snapshot, CLONE);
      // Of a call that failed between the clone and its note.
      if (!kept.has(snapshot)) rmSync(file, { force: true });
      return file;
    },
    fileOf: ({ volume, snapshot }) => path(volume, snapshot, CLONE),
    async note(clone) {
      await writeFileAtomic(path(clone.volume, clone.snapshot, NOTE), `${JSON.stringify(clone)}\n`, { mode: 0o600 });
      kept.set(clone.snapshot, clone);
    },
    /** The clone first: a note without one is no use to anybody. */
    async remove({ volume, snapshot, cut }) {
      if (kept.get(snapshot)?.cut !== cut) return;
      // A large file takes its time where nothing of it is shared.
      await rm(path(volume, snapshot, CLONE), { force: true });
      await rm(path(volume, snapshot, NOTE), { force: true });
      kept.delete(snapshot);
    },
  };
}
