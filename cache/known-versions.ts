import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, isDigest } from '../dataset/digest.ts';
import { isDiskFull, NotFoundError } from '../dataset/errors.ts';
import { writeFileAtomic } from '../system/atomic.ts';
import type { Layout } from './layout.ts';

/** A version that was staged here once, or is pinned. */
export interface KnownVersion {
  readonly version: Digest;
  /** Of its manifest: names its image and stage map. */
  readonly root: Digest;
  /** The repository's location. */
  readonly repository: string;
  readonly dataset: string;
  /** Milliseconds since 1970; 0 for one that was pinned and never staged. */
  readonly lastStaged: number;
  /** Its objects are never evicted. */
  readonly pinned: boolean;
}

/** The versions that a node knows, a small file each: unlike the index, they cannot be made from the objects. */
export interface KnownVersions {
  all(): readonly KnownVersion[];
  get(version: Digest): KnownVersion | undefined;
  /** Notes that it is staged now; a pin stays. On a full disk that is known for as long as this process runs. */
  touch(version: Omit<KnownVersion, 'lastStaged' | 'pinned'>, now?: number): Promise<void>;
  pin(version: Omit<KnownVersion, 'lastStaged' | 'pinned'>): Promise<void>;
  /** That it is not pinned is no error; a NotFoundError where it is not known. */
  unpin(version: Digest): Promise<void>;
  forget(version: Digest): void;
}

export function openKnownVersions(layout: Layout): KnownVersions {
  mkdirSync(layout.versions, { recursive: true });
  const known = new Map<Digest, KnownVersion>();
  const fileOf = (version: Digest) => join(layout.versions, `${version}.json`);
  for (const name of readdirSync(layout.versions)) {
    const version = name.replace(/\.json$/, '');
    if (!isDigest(version) || name === version) continue;
    const record = parse(readFileSync(fileOf(version), 'utf8'));
    if (record?.version === version) known.set(version, record);
    else rmSync(fileOf(version));
  }
  const put = async (record: KnownVersion) => {
    known.set(record.version, record);
    await writeFileAtomic(fileOf(record.version), `${JSON.stringify(record)}\n`);
  };
  return {
    all: () => [...known.values()],
    get: (version) => known.get(version),
    touch: async (version, now = Date.now()) => {
      try {
        await put({ ...version, lastStaged: now, pinned: known.get(version.version)?.pinned ?? false });
      } catch (error) {
        // Staging what is cached must not fail for want of a few bytes.
        if (!isDiskFull(error)) throw error;
      }
    },
    pin: (version) => put({ ...version, lastStaged: known.get(version.version)?.lastStaged ?? 0, pinned: true }),
    unpin: async (version) => {
      const record = known.get(version);
      if (!record) {
        throw new NotFoundError(`version ${version} is not in this cache: 'larder cache show' lists what is`, {
          facts: { version },
        });
      }
      if (record.pinned) await put({ ...record, pinned: false });
    },
    forget: (version) => {
      known.delete(version);
      rmSync(fileOf(version), { force: true });
    },
  };
}

/** The record, or undefined for what is none: it then counts as never staged. */
function parse(text: string): KnownVersion | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { version, root, repository, dataset, lastStaged, pinned } = value as Record<string, unknown>;
  const texts = [version, root, repository, dataset];
  if (!texts.every((text) => typeof text === 'string') || typeof lastStaged !== 'number') return undefined;
  if (!isDigest(version as string) || !isDigest(root as string)) return undefined;
  return { version, root, repository, dataset, lastStaged, pinned: pinned === true } as KnownVersion;
}
