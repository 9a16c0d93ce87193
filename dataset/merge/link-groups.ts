import { type ByteString, bytesOf } from '../byte-string.ts';
import { type Difference, differenceOf } from '../diff.ts';
import { type Digest, sha256, shortId } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { findEntry } from '../manifest.ts';
import type { Repository } from '../repository.ts';

/**
 * Keeps hard-link groups sane in a merged tree: names of one group must agree in all but their path. A group that only one side touched
 * comes out as that side has it. Of one that both touched, names that are taken from theirs form a group of their own, unless they are
 * just as those of ours.
 */
export class MergedLinkGroups {
  /** Digests, cut to 48 bits, of the groups that we touched: to be wrong takes a chance of one in millions, and splits a group. */
  readonly #touched = new Set<number>();
  readonly #repository: Repository;
  readonly #ours: Digest;
  readonly #theirs: Digest;

  /**
   * @param ours the root of our manifest
   * @param theirs by which their groups get names that no other has
   */
  constructor(repository: Repository, ours: Digest, theirs: Digest) {
    this.#repository = repository;
    this.#ours = ours;
    this.#theirs = theirs;
  }

  /** Takes note of a difference between the base and ours. */
  note({ before, after }: Difference): void {
    for (const entry of [before, after])
      if (entry?.type === 'file' && entry.link !== undefined) this.#touched.add(keyOf(entry.link));
  }

  /** An entry that is taken from theirs, in the group that it belongs to. All of ours must be noted. */
  async regroup(entry: Entry, signal?: AbortSignal): Promise<Entry> {
    if (entry.type !== 'file' || entry.link === undefined || !this.#touched.has(keyOf(entry.link))) return entry;
    const ours = await findEntry(this.#repository, this.#ours, entry.link, signal);
    if (ours?.type === 'file' && ours.link === entry.link && isSameFile(ours, entry)) return entry;
    const link = bytesOf(`merged-${shortId(this.#theirs)}-${sha256(Buffer.from(entry.link, 'latin1')).slice(0, 16)}`);
    return { ...entry, link };
  }
}

function isSameFile(a: FileEntry, b: FileEntry): boolean {
  return differenceOf(a, { ...b, path: a.path }) === undefined;
}

function keyOf(link: ByteString): number {
  return Number.parseInt(sha256(Buffer.from(link, 'latin1')).slice(0, 12), 16);
}
