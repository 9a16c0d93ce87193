import { readObject } from '../bucket/read-object.ts';
import { DIGEST_BYTES, type Digest, digestFromBytes } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { LEVEL_LIMIT } from '../format/index-node.ts';
import { LOCATIONS_LIMIT, type Places, readPlaces } from '../format/locations.ts';
import { locationsKey } from '../keys.ts';
import { chunksOf, isIndex, readAnySegment, type Segment } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import type { Repository } from '../repository.ts';
import { Keeper, type KeepRules } from '../retention.ts';
import { readShallow } from '../shallow.ts';
import { findVersion, type Version } from '../version.ts';
import { DigestSet } from './digest-set.ts';
import type { Root } from './roots.ts';
import { difference, SortedRuns } from './sorted-runs.ts';

/** A place: pack, offset (6 bytes, big-endian, as the next), stored length (4). */
export const PLACE_BYTES = DIGEST_BYTES + 10;

const NODES_AHEAD = 16;
const LEAVES_AHEAD = 32;
const VERSIONS_AHEAD = 16;
/** Of each of some twenty sets, in bytes. */
const RUN_MEMORY = 2 << 20;

export interface MarkProgress {
  readonly versions: number;
  readonly segments: number;
}

export interface MarkerOptions {
  /** Also note where each live chunk lies, and which leaves need each pack. */
  readonly places?: boolean;
  readonly temporary?: string;
  readonly onProgress?: (progress: MarkProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Finds all that a repository's roots lead to. What is found lies in sorted runs on disk; only the ids of versions are held in memory. Each segment and each
 * leaf's locations are read once, leaves themselves only where they have no locations.
 */
export class Marker implements Disposable {
  readonly versions = new DigestSet();
  readonly segments: SortedRuns;
  /** The leaves among them that have locations. */
  readonly located: SortedRuns;
  readonly packs: SortedRuns;
  readonly places: SortedRuns | undefined;
  /** Pack and leaf: which leaves' locations name a pack. */
  readonly users: SortedRuns | undefined;
  /** Versions that stay without all of their parents, as far as rules cut histories short. */
  readonly cut: { readonly id: Digest; readonly parents: readonly Digest[] }[] = [];
  /** Versions of which a parent is gone, among those that were marked loosely. */
  readonly orphans = new Set<Digest>();
  readonly #repository: Repository;
  readonly #options: MarkerOptions;
  /** Roots of manifests of versions that were walked and are still to be followed. */
  #roots: SortedRuns;
  #segmentCount = 0;

  constructor(repository: Repository, options: MarkerOptions = {}) {
    this.#repository = repository;
    this.#options = options;
    this.segments = this.#runs(DIGEST_BYTES);
    this.located = this.#runs(DIGEST_BYTES);
    this.packs = this.#runs(DIGEST_BYTES);
    this.#roots = this.#runs(DIGEST_BYTES);
    if (options.places) {
      this.places = this.#runs(PLACE_BYTES);
      this.users = this.#runs(DIGEST_BYTES * 2);
    }
  }

  [Symbol.dispose](): void {
    for (const runs of [this.segments, this.located, this.packs, this.places, this.users, this.#roots])
      runs?.[Symbol.dispose]();
  }

  /**
   * Marks names and pins, with their ancestors or as many of them as `rules` keep, and what their versions were made from. A CorruptError where anything
   * of that is missing or damaged.
   */
  async markRoots(roots: AsyncIterable<Root>, rules: KeepRules | undefined): Promise<void> {
    const shallow = await readShallow(this.#repository, this.#options.signal);
    const steps: Step[] = [];
    for await (const { kind, version } of roots) {
      steps.push({ id: version });
      if (rules !== undefined && kind === 'branch') steps.push(...(await this.#thin(version, rules, shallow)));
      if (steps.length >= VERSIONS_AHEAD) await this.#walk(steps, rules, shallow, false);
    }
    await this.#walk(steps, rules, shallow, false);
    await this.#followRoots(false);
  }

  /**
   * Marks versions, with their ancestors as far as there are no rules, and roots of manifests, that writers may be about to name. What is missing of them is
   * passed over.
   */
  async markLoosely(
    versions: AsyncIterable<Digest> | Iterable<Digest>,
    roots: Iterable<Digest>,
    rules: KeepRules | undefined,
  ): Promise<void> {
    const steps: Step[] = [];
    for await (const id of versions) {
      if (!this.versions.has(id)) steps.push({ id });
      if (steps.length >= VERSIONS_AHEAD) await this.#walk(steps, rules, new Set(), true);
    }
    await this.#walk(steps, rules, new Set(), true);
    for (const root of roots) this.#roots.addHex(root);
    await this.#followRoots(true);
  }

  async #walk(
    steps: Step[],
    rules: KeepRules | undefined,
    shallow: ReadonlySet<Digest>,
    loosely: boolean,
  ): Promise<void> {
    while (steps.length > 0) {
      this.#options.signal?.throwIfAborted();
      const batch = steps.splice(-VERSIONS_AHEAD).filter(({ id }) => !this.versions.has(id));
      const versions = await Promise.all(
        batch.map(({ id }) => findVersion(this.#repository, id, this.#options.signal)),
      );
      for (const [i, version] of versions.entries()) {
        const { id, child, isOrigin } = batch[i]!;
        if (version === undefined) {
          // What a version was made from may be gone, and so may ancestors that were left out.
          if (isOrigin || (child !== undefined && shallow.has(child))) continue;
          if (loosely) {
            if (child !== undefined) this.orphans.add(child);
            continue;
          }
          throw this.#missing(id);
        }
        if (!this.#addVersion(version)) continue;
        const { parents, from = [] } = version;
        if (rules === undefined) steps.push(...parents.map((parent) => ({ id: parent, child: version.id })));
        else if (parents.length > 0) this.cut.push({ id: version.id, parents });
        steps.push(...from.map((origin) => ({ id: origin.version, isOrigin: true })));
      }
    }
  }

  /** What `rules` keep of the first parents that lead to a branch's head. */
  async #thin(head: Digest, rules: KeepRules, shallow: ReadonlySet<Digest>): Promise<Step[]> {
    const kept: Step[] = [];
    const keeper = new Keeper(rules);
    let child: Digest | undefined;
    for (let id: Digest | undefined = head; id !== undefined && !keeper.isDone; ) {
      this.#options.signal?.throwIfAborted();
      const version: Version | undefined = await findVersion(this.#repository, id, this.#options.signal);
      if (version === undefined) {
        if (child !== undefined && shallow.has(child)) break;
        throw this.#missing(id);
      }
      if (keeper.keeps(version)) kept.push({ id });
      child = id;
      id = version.parents[0];
    }
    return kept;
  }

  #addVersion({ id, root }: Version): boolean {
    if (!this.versions.add(id)) return false;
    this.#roots.addHex(root);
    this.#report();
    return true;
  }

  #missing(id: Digest): CorruptError {
    return new CorruptError(
      `version ${id} is missing from ${this.#repository.location}, and a name or another version leads to it: nothing is collected until 'larder repair' has put it back`,
      { facts: { version: id, fault: 'missing' } },
    );
  }

  /** Level by level, the highest first, so that each segment is met once, however many versions share it. */
  async #followRoots(loosely: boolean): Promise<void> {
    const levels = Array.from({ length: LEVEL_LIMIT }, () => this.#runs(DIGEST_BYTES));
    try {
      using roots = this.#roots;
      this.#roots = this.#runs(DIGEST_BYTES);
      const expand = ({ digest, segment }: ReadSegment) => {
        if (segment === undefined) return;
        if (!isIndex(segment)) {
          levels[0]!.addHex(digest);
          return;
        }
        this.#mark(digest);
        for (const child of segment.children) levels[segment.level - 1]!.addHex(child.digest);
      };
      for await (const each of this.#readAhead(this.#unmarked(roots), loosely)) expand(each);
      for (let level = LEVEL_LIMIT - 1; level > 0; level--)
        for await (const each of this.#readAhead(this.#unmarked(levels[level]!), loosely)) expand(each);
      const leaves = this.#unmarked(levels[0]!);
      for await (const found of mapAhead(leaves, LEAVES_AHEAD, (leaf) => this.#placesOf(leaf, loosely)))
        if (found !== undefined) this.#markLeaf(found.leaf, found.places);
    } finally {
      for (const level of levels) level[Symbol.dispose]();
    }
  }

  /** What was not marked when the reading began. */
  *#unmarked(runs: SortedRuns): Generator<Digest> {
    for (const record of difference(runs.read(), this.segments.read())) yield digestFromBytes(record);
  }

  #readAhead(digests: Iterable<Digest>, loosely: boolean): AsyncGenerator<ReadSegment> {
    return mapAhead(digests, NODES_AHEAD, async (digest) => ({
      digest,
      segment: await this.#readNode(digest, loosely),
    }));
  }

  async #readNode(digest: Digest, loosely: boolean): Promise<Segment | undefined> {
    this.#options.signal?.throwIfAborted();
    try {
      return await readAnySegment(this.#repository, digest, this.#options.signal);
    } catch (error) {
      if (loosely && isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Undefined where it is passed over; no places where the leaf has no chunks. */
  async #placesOf(
    leaf: Digest,
    loosely: boolean,
  ): Promise<{ readonly leaf: Digest; readonly places?: Places } | undefined> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    try {
      const { bytes } = await readObject(this.#repository.bucket, locationsKey(leaf), LOCATIONS_LIMIT, { signal });
      return { leaf, places: readPlaces(leaf, bytes) };
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
    const entries = await this.#readNode(leaf, loosely);
    if (entries === undefined || isIndex(entries)) return undefined;
    if (chunksOf(entries).length === 0 || loosely) return { leaf };
    throw new CorruptError(
      `locations of segment ${leaf} are missing from ${this.#repository.location}: nothing is collected until 'larder repair' has put them back`,
      { facts: { object: locationsKey(leaf), segment: leaf, fault: 'missing' } },
    );
  }

  #markLeaf(leaf: Digest, places: Places | undefined): void {
    this.#mark(leaf);
    if (places === undefined) return;
    this.located.addHex(leaf);
    const { packs, rows } = places;
    for (const pack of packs) this.packs.addHex(pack);
    if (this.places === undefined || this.users === undefined) return;
    const user = Buffer.alloc(this.users.width);
    user.write(leaf, DIGEST_BYTES, 'hex');
    for (const pack of packs) {
      user.write(pack, 0, 'hex');
      this.users.add(user);
    }
    const ids = packs.map((pack) => Buffer.from(pack, 'hex'));
    const place = Buffer.alloc(PLACE_BYTES);
    for (const { pack, offset, stored } of rows) {
      place.set(ids[pack]!);
      place.writeUIntBE(offset, DIGEST_BYTES, 6);
      place.writeUInt32BE(stored, DIGEST_BYTES + 6);
      this.places.add(place);
    }
  }

  #mark(segment: Digest): void {
    this.segments.addHex(segment);
    this.#segmentCount += 1;
    if (this.#segmentCount % 64 === 0) this.#report();
  }

  #report(): void {
    this.#options.onProgress?.({ versions: this.versions.size, segments: this.#segmentCount });
  }

  #runs(width: number): SortedRuns {
    return new SortedRuns({ width, directory: this.#options.temporary, memory: RUN_MEMORY });
  }
}

/** A version to be walked to. */
interface Step {
  readonly id: Digest;
  /** The version that it is a parent of. */
  readonly child?: Digest;
  readonly isOrigin?: boolean;
}

interface ReadSegment {
  readonly digest: Digest;
  readonly segment: Segment | undefined;
}

function isMissing(error: unknown): boolean {
  return error instanceof CorruptError && error.cause instanceof NotFoundError;
}
