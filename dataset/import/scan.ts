import { hash } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import {
  addressOf,
  createStatRecord,
  getdents,
  readlinkAt,
  STAT,
  type StatRecord,
  statAt,
} from '../../system/calls/directory.ts';
import { errnoName, systemError } from '../../system/calls/libc.ts';
import { fgetxattr, flistxattr } from '../../system/calls/xattr.ts';
import { type ByteString, bufferOf, fromBuffer } from '../byte-string.ts';
import type { Xattr } from '../entry.ts';
import { isErrno } from '../errors.ts';
import { joinPath } from '../path.ts';
import { DeepPaths, fsPath } from './deep-path.ts';
import {
  COLUMN,
  COLUMNS,
  COMPARED_COLUMNS,
  encodeListing,
  type Listing,
  NEVER,
  namesOf,
  packNames,
  TYPE,
  TYPE_MASK,
} from './listing.ts';

/** What the last import of this directory kept, as far as scanning asks for it. */
export interface KeptListings {
  /** The digest of the directory's raw listing and the first names of its pieces, in order; undefined if it is not known. */
  outline(directory: ByteString): { readonly digest: string; readonly firsts: readonly ByteString[] } | undefined;
  /** The pieces that hold names from `first` (inclusive) to `until` (exclusive), in order. */
  pieces(directory: ByteString, first: ByteString, until: ByteString | undefined): KeptPiece[];
}

export interface KeptPiece {
  /** Its key: its first name, or the empty string for the directory's first piece. */
  readonly first: ByteString;
  readonly listing: Listing;
}

export interface ScanSettings {
  /** The absolute path of the directory that is imported. */
  readonly root: ByteString;
  /**
   * A file whose ctime is not before this moment may change again without its times showing it: it is not kept as known.
   * Whole seconds and nanoseconds since 1970.
   */
  readonly trustBefore: readonly [seconds: number, nanos: number];
  /** Report every file as changed. */
  readonly everything: boolean;
}

/** A stretch of one directory's names, scanned by itself where the directory is large. */
export interface Stretch {
  /** The empty string for the first stretch. */
  readonly first: ByteString;
  /** Where the next begins; undefined for the last. */
  readonly until: ByteString | undefined;
  /** The names, packed; undefined where they are the kept ones. */
  readonly names: Uint8Array<ArrayBuffer> | undefined;
}

/** What became of an entry since the last import. */
export const STATE = { same: 0, put: 1, gone: 2, replaced: 3 } as const;

/** The entries of a stretch that matter: what changed, what went, all directories, and files with several names. */
export interface Piece {
  readonly count: number;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly names: Uint8Array<ArrayBuffer>;
  /** `STATE` of each. `replaced`: it was a directory and is none any more. */
  readonly states: Uint8Array<ArrayBuffer>;
  /** Targets of changed symbolic links, by index. */
  readonly targets: ReadonlyMap<number, ByteString>;
  /** Entries that were looked at. */
  readonly seen: number;
  readonly skipped: Skipped;
  /** Whether a name that was listed was gone when it was looked at. It may be back, in the very same place of the listing. */
  readonly lost: boolean;
  /** What to keep of this stretch, where that differs from what is kept. */
  readonly keep: Uint8Array<ArrayBuffer> | undefined;
}

/** Entries that no version holds. */
export interface Skipped {
  devices: number;
  sockets: number;
  fifos: number;
}

export interface ScannedDirectory {
  /** It went between the listing of its parent and now. */
  readonly vanished: boolean;
  /** Its own attributes in `user.`. */
  readonly xattrs: readonly Xattr[] | undefined;
  /** SHA-256 of its raw listing, in hexadecimal. */
  readonly digest: string;
  /** Whether the listing is the kept one, so that the kept pieces stand. */
  readonly listed: 'as kept' | 'anew';
  /** The directory in one piece, or, if it is large, where to look for its pieces. */
  readonly piece: Piece | undefined;
  readonly stretches: readonly Stretch[];
}

/** More names than this are scanned in stretches. */
const SINGLE_PIECE = 1024;
/** A stretch ends after a name whose hash says so (one in 512), or after this many. */
const STRETCH_MAX = 2048;

const none: ReadonlyMap<number, ByteString> = new Map();

/** Lists directories and looks at every entry, in a worker thread. Everything is synchronous. */
export class Scanner {
  readonly #settings: ScanSettings;
  readonly #kept: KeptListings | undefined;
  readonly #record: StatRecord = createStatRecord();
  readonly #deep = new DeepPaths();
  readonly #target = Buffer.alloc(4096);
  #raw = Buffer.alloc(64 << 10);

  constructor(settings: ScanSettings, kept: KeptListings | undefined) {
    this.#settings = settings;
    this.#kept = kept;
  }

  /** Lists a directory; looks at its entries too unless there are many. */
  directory(path: ByteString): ScannedDirectory {
    let fd: number;
    try {
      fd = this.#open(path);
    } catch (error) {
      if (path !== '' && (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR') || isErrno(error, 'ELOOP')))
        return vanished;
      throw error;
    }
    try {
      const length = this.#list(fd, path);
      const raw = this.#raw.subarray(0, length);
      forgetOffsets(raw);
      const digest = hash('sha256', raw, 'hex');
      const xattrs = readXattrs(fd);
      const outline = this.#kept?.outline(path);
      const known = outline?.digest === digest;
      if (known && outline.firsts.length > 1)
        return {
          vanished: false,
          xattrs,
          digest,
          listed: 'as kept',
          piece: undefined,
          stretches: keptStretches(outline.firsts),
        };
      const whole: Stretch = { first: '' as ByteString, until: undefined, names: undefined };
      if (known) {
        const piece = this.#scan(fd, path, whole);
        return { vanished: false, xattrs, digest, listed: 'as kept', piece, stretches: [] };
      }
      const names = sortedNames(raw);
      if (this.#raw.length > 1 << 20) this.#raw = Buffer.alloc(64 << 10);
      if (names.length > SINGLE_PIECE)
        return { vanished: false, xattrs, digest, listed: 'anew', piece: undefined, stretches: cutStretches(names) };
      const piece = this.#scan(fd, path, { ...whole, names: packNames(names) });
      return { vanished: false, xattrs, digest, listed: 'anew', piece, stretches: [] };
    } finally {
      closeSync(fd);
    }
  }

  /** Looks at one stretch of a large directory. */
  stretch(path: ByteString, stretch: Stretch): Piece {
    const fd = this.#open(path);
    try {
      return this.#scan(fd, path, stretch);
    } finally {
      closeSync(fd);
    }
  }

  #absolute(path: ByteString): ByteString {
    return path === '' ? this.#settings.root : joinPath(this.#settings.root, path);
  }

  #open(path: ByteString): number {
    // The root itself may be a symbolic link; nothing below it is followed.
    const follow = path === '' ? 0 : constants.O_NOFOLLOW;
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK | follow;
    return openSync(fsPath(this.#deep.reach(this.#absolute(path))), flags);
  }

  /** Reads the whole listing into `#raw` and gives its length. */
  #list(fd: number, path: ByteString): number {
    let length = 0;
    for (;;) {
      if (this.#raw.length - length < 32 << 10) {
        const larger = Buffer.allocUnsafe(this.#raw.length * 2);
        this.#raw.copy(larger, 0, 0, length);
        this.#raw = larger;
      }
      const read = getdents(fd, this.#raw.subarray(length), Buffer.from(this.#absolute(path), 'latin1'));
      if (read === 0) return length;
      length += read;
    }
  }

  #scan(fd: number, path: ByteString, stretch: Stretch): Piece {
    const kept = this.#kept?.pieces(path, stretch.first, stretch.until) ?? [];
    const asKept = stretch.names === undefined;
    const all = kept.length === 0 ? undefined : concatenate(kept.map(({ listing }) => listing));
    const old = all === undefined || asKept ? all : clip(all, stretch);
    if (asKept && old === undefined) throw new Error('a kept listing went while it was used');
    const names = stretch.names ?? old!.names;
    const listed = asKept ? old!.count : countNames(names);
    const found = this.#examine(fd, path, names, listed);
    const skipped = countSkipped(found);
    const sameNames = old !== undefined && Buffer.compare(found.names, old.names) === 0;
    const { changed, ...piece } = sameNames ? this.#compare(fd, path, found, old) : this.#merge(fd, path, found, old);
    // The kept pieces are cut elsewhere: they are written anew.
    const moved = kept.length !== 1 || kept[0]!.first !== stretch.first || kept[0]!.listing.count !== old!.count;
    const keep = changed || moved ? encodeListing(this.#trusted(found)) : undefined;
    const lost = found.count < listed;
    return { ...piece, seen: found.count, skipped, lost, keep: keep && new Uint8Array(keep) };
  }

  /** statx(2) of every name. Names that are gone are left out. */
  #examine(fd: number, path: ByteString, names: Uint8Array, count: number): Listing {
    const words = new Uint32Array(COLUMNS * count);
    if (count === 0) return { count, words, names };
    const base = addressOf(names);
    const record = this.#record;
    const from = record.words;
    const gone: number[] = [];
    let at = 0;
    for (let i = 0; i < count; i++) {
      const errno = statAt(fd, base + at, record);
      const end = names.indexOf(0, at);
      if (errno === 0) {
        // Column by column, in their order.
        words[i] = from[STAT.mode]! & 0xffff;
        words[i + count] = from[STAT.nlink]!;
        words[i + 2 * count] = from[STAT.uid]!;
        words[i + 3 * count] = from[STAT.gid]!;
        words[i + 4 * count] = from[STAT.inode]!;
        words[i + 5 * count] = from[STAT.inode + 1]!;
        words[i + 6 * count] = from[STAT.size]!;
        words[i + 7 * count] = from[STAT.size + 1]!;
        words[i + 8 * count] = from[STAT.mtime]!;
        words[i + 9 * count] = from[STAT.mtime + 1]!;
        words[i + 10 * count] = from[STAT.mtimeNanos]!;
        words[i + 11 * count] = from[STAT.ctime]!;
        words[i + 12 * count] = from[STAT.ctime + 1]!;
        words[i + 13 * count] = from[STAT.ctimeNanos]!;
        words[i + 14 * count] = from[STAT.deviceMajor]!;
        words[i + 15 * count] = from[STAT.deviceMinor]!;
      } else if (errnoName(errno) === 'ENOENT') gone.push(i);
      else {
        const name = fromBuffer(names.subarray(at, end));
        throw systemError(errno, { syscall: 'statx', path: bufferOf(this.#absolute(joinPath(path, name))) });
      }
      at = end + 1;
    }
    const all = { count, words, names };
    return gone.length === 0 ? all : without(all, gone);
  }

  /** The names are the same ones: only numbers can differ. */
  #compare(fd: number, path: ByteString, found: Listing, old: Listing): Chosen & { changed: boolean } {
    const { count, words } = found;
    const before = old.words;
    const chosen: number[] = [];
    const states: number[] = [];
    let changed = false;
    for (let i = 0; i < count; i++) {
      let same = true;
      for (let k = i, end = COMPARED_COLUMNS * count; k < end; k += count)
        if (words[k] !== before[k]) {
          same = false;
          changed = true;
          break;
        }
      const type = words[i]! & TYPE_MASK;
      const state = this.#state(type, same, before[i]! & TYPE_MASK);
      if (matters(state, type, words[i + count]!)) {
        chosen.push(i);
        states.push(state);
      }
    }
    if (chosen.length === 0) return { ...nothing(), changed };
    const names = chosen.length === count ? undefined : namesOf(found);
    return { ...this.#choose(fd, path, found, chosen, states, names), changed };
  }

  /** Names came or went. */
  #merge(fd: number, path: ByteString, found: Listing, old: Listing | undefined): Chosen & { changed: boolean } {
    if (old === undefined) {
      const chosen: number[] = [];
      const states: number[] = [];
      for (let i = 0; i < found.count; i++) {
        const state = this.#state(found.words[i]! & TYPE_MASK, false, 0);
        if (state === STATE.same) continue;
        chosen.push(i);
        states.push(state);
      }
      return { ...this.#choose(fd, path, found, chosen, states), changed: true };
    }
    // Both in order: entries of `found` and, where they are gone, of `old`, which is laid behind it.
    const both = concatenate([found, old]);
    const names = namesOf(found);
    const before = namesOf(old);
    const chosen: number[] = [];
    const states: number[] = [];
    let j = 0;
    const goneUpTo = (name: ByteString | undefined) => {
      for (; j < before.length && (name === undefined || before[j]! < name); j++) {
        if (!isKind(old.words[j]! & TYPE_MASK)) continue;
        chosen.push(found.count + j);
        states.push(STATE.gone);
      }
    };
    for (let i = 0; i < names.length; i++) {
      goneUpTo(names[i]!);
      const known = j < before.length && before[j] === names[i];
      const was = known ? old.words[j]! & TYPE_MASK : 0;
      const same = known && equalEntries(found, i, old, j);
      if (known) j++;
      const type = found.words[i]! & TYPE_MASK;
      const state = this.#state(type, same, was);
      if (!matters(state, type, found.words[i + found.count]!)) continue;
      chosen.push(i);
      states.push(state);
    }
    goneUpTo(undefined);
    return { ...this.#choose(fd, path, both, chosen, states, [...names, ...before]), changed: true };
  }

  /** @param was the type of the entry of that name at the last import; 0 if there was none */
  #state(type: number, same: boolean, was: number): number {
    if (!isKind(type)) return isKind(was) ? STATE.gone : STATE.same;
    if (same && !(this.#settings.everything && type === TYPE.file)) return STATE.same;
    return was === TYPE.directory && type !== TYPE.directory ? STATE.replaced : STATE.put;
  }

  #choose(
    fd: number,
    path: ByteString,
    from: Listing,
    chosen: readonly number[],
    states: readonly number[],
    names?: readonly ByteString[],
  ): Chosen {
    const count = chosen.length;
    const words = new Uint32Array(COLUMNS * count);
    for (let column = 0; column < COLUMNS; column++) {
      const target = column * count;
      const source = column * from.count;
      for (let i = 0; i < count; i++) words[target + i] = from.words[source + chosen[i]!]!;
    }
    const all = count === from.count && chosen.every((index, i) => index === i);
    const packed = all ? new Uint8Array(from.names) : packNames(pick(names ?? namesOf(from), chosen));
    let targets: Map<number, ByteString> | undefined;
    let base = 0;
    let at = 0;
    for (let i = 0; i < count; i++) {
      if (states[i] === STATE.put || states[i] === STATE.replaced)
        if ((words[i]! & TYPE_MASK) === TYPE.symlink) {
          base ||= addressOf(packed);
          targets ??= new Map();
          const end = packed.indexOf(0, at);
          targets.set(i, this.#readlink(fd, path, base + at, fromBuffer(packed.subarray(at, end))));
        }
      at = packed.indexOf(0, at) + 1;
    }
    return { count, words, names: packed, states: Uint8Array.from(states), targets: targets ?? none };
  }

  #readlink(fd: number, path: ByteString, address: number, name: ByteString): ByteString {
    const length = readlinkAt(fd, address, this.#target);
    if (length >= 0) return fromBuffer(this.#target.subarray(0, length));
    throw systemError(-length, { syscall: 'readlink', path: bufferOf(this.#absolute(joinPath(path, name))) });
  }

  /** The listing as it is kept: what may change again unseen is never equal. */
  #trusted(listing: Listing): Listing {
    const { count, names } = listing;
    const words = listing.words.slice();
    const [seconds, nanos] = this.#settings.trustBefore;
    const ctime = COLUMN.ctime * count;
    const ctimeNanos = COLUMN.ctimeNanos * count;
    for (let i = 0; i < count; i++) {
      const at = words[ctime + i]! + (words[ctime + count + i]! | 0) * 0x1_0000_0000;
      if (at > seconds || (at === seconds && words[ctimeNanos + i]! >= nanos)) words[ctimeNanos + i] = NEVER;
    }
    return { count, words, names };
  }
}

function pick<T>(values: readonly T[], indices: readonly number[]): T[] {
  return indices.map((i) => values[i]!);
}

type Chosen = Pick<Piece, 'count' | 'words' | 'names' | 'states' | 'targets'>;

const vanished: ScannedDirectory = {
  vanished: true,
  xattrs: undefined,
  digest: '',
  listed: 'anew',
  piece: undefined,
  stretches: [],
};

function nothing(): Chosen {
  return { count: 0, words: new Uint32Array(0), names: new Uint8Array(0), states: new Uint8Array(0), targets: none };
}

/** Whether a version holds entries of this type. */
function isKind(type: number): boolean {
  return type === TYPE.file || type === TYPE.directory || type === TYPE.symlink;
}

function matters(state: number, type: number, nlink: number): boolean {
  return state !== STATE.same || type === TYPE.directory || (type === TYPE.file && nlink > 1);
}

function countSkipped({ count, words }: Listing): Skipped {
  const skipped = { devices: 0, sockets: 0, fifos: 0 };
  for (let i = 0; i < count; i++) {
    const type = words[i]! & TYPE_MASK;
    if (type === TYPE.character || type === TYPE.block) skipped.devices++;
    else if (type === TYPE.socket) skipped.sockets++;
    else if (type === TYPE.fifo) skipped.fifos++;
  }
  return skipped;
}

function equalEntries(a: Listing, i: number, b: Listing, j: number): boolean {
  for (let column = 0; column < COMPARED_COLUMNS; column++)
    if (a.words[column * a.count + i] !== b.words[column * b.count + j]) return false;
  return true;
}

function countNames(names: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < names.length; i++) if (names[i] === 0) count++;
  return count;
}

/** Only the names of the stretch. */
function clip(listing: Listing, { first, until }: Stretch): Listing {
  if (first === '' && until === undefined) return listing;
  const outside: number[] = [];
  for (const [i, name] of namesOf(listing).entries())
    if (name < first || (until !== undefined && name >= until)) outside.push(i);
  return outside.length === 0 ? listing : without(listing, outside);
}

function concatenate(listings: readonly Listing[]): Listing {
  if (listings.length === 1) return listings[0]!;
  const count = listings.reduce((sum, { count }) => sum + count, 0);
  const words = new Uint32Array(COLUMNS * count);
  let at = 0;
  for (const part of listings) {
    for (let column = 0; column < COLUMNS; column++)
      words.set(part.words.subarray(column * part.count, (column + 1) * part.count), column * count + at);
    at += part.count;
  }
  return { count, words, names: Buffer.concat(listings.map(({ names }) => names)) };
}

function without(listing: Listing, gone: readonly number[]): Listing {
  const left = new Set(gone);
  const names = namesOf(listing);
  const kept = names.flatMap((_, i) => (left.has(i) ? [] : [i]));
  const words = new Uint32Array(COLUMNS * kept.length);
  for (let column = 0; column < COLUMNS; column++)
    for (let i = 0; i < kept.length; i++)
      words[column * kept.length + i] = listing.words[column * listing.count + kept[i]!]!;
  return { count: kept.length, words, names: packNames(kept.map((i) => names[i]!)) };
}

/**
 * Zeroes the records' offsets: where a file system counts them anew, the directory is the same nevertheless. struct linux_dirent64
 * stands at `getdents`; records are aligned to 8 bytes.
 */
function forgetOffsets(raw: Buffer): void {
  const words = new Uint32Array(raw.buffer, raw.byteOffset, raw.length >> 2);
  for (let at = 0; at < words.length; at += (words[at + 4]! & 0xffff) >> 2) {
    words[at + 2] = 0;
    words[at + 3] = 0;
  }
}

/** The names of a raw listing, without `.` and `..`, in byte order. struct linux_dirent64 stands at `getdents`. */
function sortedNames(raw: Buffer): ByteString[] {
  const names: ByteString[] = [];
  for (let at = 0; at < raw.length; ) {
    const length = raw.readUInt16LE(at + 16);
    const end = raw.indexOf(0, at + 19);
    const first = raw[at + 19];
    const dots = first === 0x2e && (end === at + 20 || (end === at + 21 && raw[at + 20] === 0x2e));
    if (!dots) names.push(raw.toString('latin1', at + 19, end) as ByteString);
    at += length;
  }
  // The default order is that of code units, which are bytes here.
  return names.sort();
}

function keptStretches(firsts: readonly ByteString[]): Stretch[] {
  return firsts.map((first, i) => ({ first, until: firsts[i + 1], names: undefined }));
}

/** Cuts where the names say, so that an added name moves one border at most. */
function cutStretches(names: readonly ByteString[]): Stretch[] {
  const stretches: Stretch[] = [];
  let start = 0;
  for (let i = 1; i <= names.length; i++) {
    if (i < names.length && i - start < STRETCH_MAX && !isBorder(names[i]!)) continue;
    const first = start === 0 ? ('' as ByteString) : names[start]!;
    stretches.push({ first, until: names[i], names: packNames(names.slice(start, i)) });
    start = i;
  }
  return stretches;
}

/** One name in 512, by its FNV-1a hash. */
function isBorder(name: ByteString): boolean {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 15)) % 512 === 0;
}

/** The attributes in `user.` of an open file or directory, sorted by name; undefined if there are none. */
export function readXattrs(fd: number): Xattr[] | undefined {
  const names = flistxattr(fd);
  if (names.length === 0) return undefined;
  const result: Xattr[] = [];
  for (const name of names) {
    if (!name.startsWith('user.')) continue;
    const value = fgetxattr(fd, name);
    // In memory of its own: a copy to another thread takes all of the memory that a value lies in.
    if (value !== undefined)
      result.push({ name: name as ByteString, value: Buffer.from(new Uint8Array(value).buffer) });
  }
  if (result.length === 0) return undefined;
  return result.sort((a, b) => (a.name < b.name ? -1 : 1));
}
