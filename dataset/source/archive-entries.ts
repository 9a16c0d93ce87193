import { type ByteString, textOf } from '../byte-string.ts';
import type { DirectoryEntry, Entry, FileEntry } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import { isWithin, joinPath, parentOf, ROOT_PATH } from '../path.ts';
import type { Ingest } from './ingest.ts';
import { type Numbered, PathSorter, type PathSorterOptions } from './path-sorter.ts';
import type { TarMember } from './tar/read-tar.ts';

/** What archives have that a version does not hold. */
export interface SkippedMembers {
  devices: number;
  fifos: number;
}

const BATCH = 1024;

/** One more name of a file. */
interface Link {
  readonly path: ByteString;
  readonly number: number;
  readonly inode: Inode;
}

/** The file that had this name last before the member of this number came. */
interface Inode {
  readonly target: ByteString;
  readonly before: number;
}

/**
 * Gathers the entries of archives, which come in any order, and gives them as a tree in path order. Of members with one name, the last counts.
 * Memory grows with the number of hard links only.
 */
export class ArchiveEntries implements Disposable {
  readonly #sorter: PathSorter;
  readonly #ingest: Ingest;
  readonly #links: Link[] = [];
  /** What names that are links are now, to follow a link to a link. */
  readonly #linked = new Map<ByteString, Inode>();
  readonly #pending = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;
  #next = 0;
  readonly skipped: SkippedMembers = { devices: 0, fifos: 0 };
  files = 0;
  bytes = 0;
  seen = 0;

  constructor(ingest: Ingest, options?: PathSorterOptions) {
    this.#ingest = ingest;
    this.#sorter = new PathSorter(options);
  }

  /**
   * Takes a member with its bytes.
   * @param folder where its archive is unpacked
   */
  async take(member: TarMember, folder: ByteString): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const number = this.#next++;
    const path = within(folder, member.path);
    this.seen++;
    if (member.type === 'device') this.skipped.devices++;
    else if (member.type === 'fifo') this.skipped.fifos++;
    else if (member.type === 'link') {
      const to = within(folder, member.to);
      const inode = this.#linked.get(to) ?? { target: to, before: number };
      this.#linked.set(path, inode);
      this.#links.push({ path, number, inode });
    } else {
      // It is a file of its own from here on.
      this.#linked.delete(path);
      const { mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs } = member;
      const base = { path, mode, uid, gid, mtimeSeconds, mtimeNanos, ...(xattrs && { xattrs }) };
      if (member.type === 'directory') this.#sorter.add({ type: 'directory', ...base }, number);
      else if (member.type === 'symlink') this.#sorter.add({ type: 'symlink', ...base, target: member.target }, number);
      else await this.#file(base, member.body, number);
    }
  }

  /** Waits until all that was taken is stored. */
  async finish(): Promise<void> {
    this.#ingest.flush();
    await Promise.all(this.#pending);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /**
   * The tree: each directory before what is in it, made where no member told of it. To be called after `finish`.
   * @param top the directory where the archive is unpacked, if its folder is not the root; what is above it is there
   */
  *tree(top?: DirectoryEntry): Generator<Entry[]> {
    let batch: Entry[] = top === undefined ? [] : [top];
    /** Directories that the entry at hand is in, outermost first. */
    const open: ByteString[] = top === undefined ? [] : [top.path];
    let last: Entry | undefined = top;
    for (const entry of this.#withLinks()) {
      // The archive may have its own root as a member: the directory that it is unpacked to stays what it is.
      if (entry.path === top?.path) continue;
      if (last !== undefined && last.type !== 'directory' && isWithin(entry.path, last.path))
        throw inNoDirectory(entry, last);
      while (open.length > 0 && !isWithin(entry.path, open.at(-1)!)) open.pop();
      const missing: ByteString[] = [];
      for (let at = parentOf(entry.path); at !== undefined && at !== open.at(-1); at = parentOf(at))
        missing.unshift(at);
      for (const directory of missing) batch.push(directoryFor(directory, entry));
      open.push(...missing);
      batch.push(entry);
      if (entry.type === 'directory') open.push(entry.path);
      last = entry;
      if (batch.length < BATCH) continue;
      yield batch;
      batch = [];
    }
    if (last === undefined) batch.push(directoryFor(ROOT_PATH, undefined));
    if (batch.length > 0) yield batch;
  }

  /** Entries in path order, the last of each path, with further names of files. */
  *#withLinks(): Generator<Entry> {
    if (this.#links.length === 0) {
      yield* lastOfEach(this.#sorter.sorted());
      return;
    }
    const { files, finals } = this.#linkTargets();
    using all = new PathSorter();
    /** Names of groups, by the number of the file that was there first. */
    const groups = new Map<number, ByteString>();
    const used = new Set<ByteString>();
    for (const { path, number, inode } of this.#links) {
      const file = files.get(inode.target)?.findLast((each) => each.number < inode.before);
      if (file === undefined || file.entry.type !== 'file')
        throw new InvalidError(
          `the member '${textOf(path)}' is a link to '${textOf(inode.target)}', which is no file that came before it: nothing was imported`,
          { facts: { member: textOf(path) } },
        );
      let link = groups.get(file.number);
      if (link === undefined) {
        // The first name may be another file's by the end.
        link = finals.get(inode.target) === file.number ? inode.target : path;
        while (used.has(link)) link = `${link}~` as ByteString;
        used.add(link);
        groups.set(file.number, link);
      }
      all.add({ ...file.entry, path, link }, number);
    }
    for (const { entry, number } of this.#sorter.sorted()) {
      const link = groups.get(number);
      all.add(link !== undefined && entry.type === 'file' ? { ...entry, link } : entry, number);
    }
    yield* lastOfEach(all.sorted());
  }

  /** What had the names that links lead to, in the order in which it came, and which of it has the name at the end. */
  #linkTargets() {
    const names = new Set(this.#links.map(({ inode }) => inode.target));
    const files = new Map<ByteString, Numbered[]>();
    const finals = new Map<ByteString, number>();
    for (const each of this.#sorter.sorted()) {
      const { path } = each.entry;
      if (!names.has(path)) continue;
      finals.set(path, each.number);
      const known = files.get(path);
      if (known) known.push(each);
      else files.set(path, [each]);
    }
    // A link may have taken the name.
    for (const { path, number } of this.#links) if ((finals.get(path) ?? number) < number) finals.set(path, number);
    return { files, finals };
  }

  async #file(
    base: Omit<FileEntry, 'content' | 'size' | 'type'>,
    body: Parameters<Ingest['take']>[0],
    number: number,
  ): Promise<void> {
    const { size, content } = await this.#ingest.take(body);
    this.files++;
    this.bytes += size;
    const added: Promise<void> = content
      .then((known) => this.#sorter.add({ ...base, type: 'file', size, content: known }, number))
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#pending.delete(added));
    this.#pending.add(added);
  }

  [Symbol.dispose](): void {
    this.#sorter[Symbol.dispose]();
  }
}

function inNoDirectory(entry: Entry, last: Entry): InvalidError {
  const member = textOf(entry.path);
  return new InvalidError(
    `the member '${member}' is in '${textOf(last.path)}', which is a ${last.type}: nothing was imported`,
    { facts: { member } },
  );
}

function within(folder: ByteString, path: ByteString): ByteString {
  return path === '' ? folder : joinPath(folder, path);
}

/** A directory that no member tells of: its owner and time are those of what is first in it. */
function directoryFor(path: ByteString, first: Entry | undefined): DirectoryEntry {
  const { uid = 0, gid = 0, mtimeSeconds = 0, mtimeNanos = 0 } = first ?? {};
  return { type: 'directory', path, mode: 0o755, uid, gid, mtimeSeconds, mtimeNanos };
}

function* lastOfEach(sorted: Iterable<Numbered>): Generator<Entry> {
  let waiting: Entry | undefined;
  for (const { entry } of sorted) {
    if (waiting !== undefined && waiting.path !== entry.path) yield waiting;
    waiting = entry;
  }
  if (waiting !== undefined) yield waiting;
}
