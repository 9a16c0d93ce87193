import type { Digest } from './digest.ts';
import { resolveName } from './refs.ts';
import type { Repository } from './repository.ts';
import { findVersion, type Origin, type Version } from './version.ts';

/** The versions that `NAME[@REF]`s mean now, each once, as a new version's origins. */
export async function resolveOrigins(repository: Repository, names: readonly string[]): Promise<Origin[]> {
  const origins = new Map<string, Origin>();
  for (const name of names) {
    const { dataset, version } = await resolveName(repository, name);
    origins.set(`${version} ${dataset}`, { dataset, version });
  }
  return [...origins.values()];
}

/** A version in the tree of what a version was made from. */
export interface LineageNode {
  readonly origin: Origin;
  /** Undefined where the repository does not have it: it was collected, or is in another one. */
  readonly version: Version | undefined;
  /** Where it does not tell itself what it was made from: the nearest version before it that does, whose origins these are. */
  readonly through: Version | undefined;
  /** What it was made from. */
  readonly from: readonly LineageNode[];
  /** It stands in the tree already, where what it was made from is shown; or the tree has as many versions as are read. */
  readonly cut?: 'shown' | 'limit';
}

export interface LineageOptions {
  /** Versions read at most, those before others included; 1,000 if not said. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/**
 * What a version was made from, what that was made from, and so on, across datasets: which data trained this model. A version that tells
 * nothing itself was made from what the nearest version before it was that does: a correction of a model comes from the same data.
 */
export async function lineage(
  repository: Repository,
  origin: Origin,
  { limit = 1000, signal }: LineageOptions = {},
): Promise<LineageNode> {
  const reader = new Reader(repository, limit, signal);
  const shown = new Set<Digest>();
  const nodeOf = async (at: Origin): Promise<LineageNode> => {
    const none = { origin: at, through: undefined, from: [] };
    if (!reader.hasRoom) return { ...none, version: undefined, cut: 'limit' };
    const version = await reader.read(at.version);
    if (version === undefined) return { ...none, version };
    if (shown.has(version.id)) return { ...none, version, cut: 'shown' };
    shown.add(version.id);
    const told = version.from === undefined ? await reader.nearest(version) : version;
    if (told === 'limit') return { ...none, version, cut: 'limit' };
    const from: LineageNode[] = [];
    for (const each of told?.from ?? []) from.push(await nodeOf(each));
    return { origin: at, version, through: told === version ? undefined : told, from };
  };
  return await nodeOf(origin);
}

class Reader {
  readonly #repository: Repository;
  readonly #signal: AbortSignal | undefined;
  #left: number;

  constructor(repository: Repository, limit: number, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#left = limit;
    this.#signal = signal;
  }

  get hasRoom(): boolean {
    return this.#left > 0;
  }

  async read(id: Digest): Promise<Version | undefined> {
    this.#left--;
    return await findVersion(this.#repository, id, this.#signal);
  }

  /** The nearest version before one that tells what it was made from, parents in turn; `limit` where none was found in time. */
  async nearest(version: Version): Promise<Version | 'limit' | undefined> {
    const met = new Set(version.parents);
    for (const id of met) {
      if (!this.hasRoom) return 'limit';
      const before = await this.read(id);
      if (before?.from !== undefined) return before;
      for (const parent of before?.parents ?? []) met.add(parent);
    }
    return undefined;
  }
}
