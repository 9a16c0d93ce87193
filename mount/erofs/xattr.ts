import { type ByteString, bufferOf, textOf } from '../../dataset/byte-string.ts';
import type { Entry, Xattr } from '../../dataset/entry.ts';
import { CorruptError, InvalidError } from '../../dataset/errors.ts';
import {
  NAME_BYTES_MAX,
  roundUp,
  TWO_32,
  XATTR_BODY_MAX,
  XATTR_ENTRY_BYTES,
  XATTR_FILTER_SEED,
  XATTR_HEADER,
  XATTR_HEADER_BYTES,
  XATTR_INDEX,
  XATTR_LONG_PREFIX,
  XATTR_SHARED_MAX,
  XATTR_VALUE_MAX,
} from './layout.ts';
import type { Region } from './space.ts';
import { xxh32 } from './xxh32.ts';

/** What an image's names begin with; besides a user's, those by which a view is marked. */
const PREFIXES = [
  { prefix: 'user.', index: XATTR_INDEX.user },
  { prefix: 'trusted.', index: XATTR_INDEX.trusted },
  { prefix: 'system.posix_acl_default', index: XATTR_INDEX.defaultAcl },
] as const;
const USER = PREFIXES[0].prefix;
const METACOPY = 'overlay.metacopy' as ByteString;
const REDIRECT = 'overlay.redirect' as ByteString;
/** `/`, two hex digits, `/`, 64 hex digits. */
const REDIRECT_VALUE_BYTES = 68;
/** An entry of this length is shared at its first sight: it would make the inodes sparse. A shorter one at its second. */
const LONG_BYTES = 512;
/** What is remembered of names and values seen, in characters; when it is full, it is forgotten and begun again. */
const SEEN_MAX = 4 << 20;
const SEEN_OVERHEAD = 128;
const NOT_SHARED = -1;
/** Plans of marks that are kept; there are as many as owners and modes. */
const MARKS_MAX = 4096;

/** Where each of an inode's xattrs goes, and how much room they take. */
export interface XattrPlan {
  /** Of the xattr body, behind the inode; 0 when there is none. */
  readonly bytes: number;
  /** The bits of the names that are there, which the filter inverts. */
  readonly filterBits: number;
  readonly shared: readonly number[];
  readonly inline: readonly Xattr[];
}

export const NO_XATTRS: XattrPlan = { bytes: 0, filterBits: 0, shared: [], inline: [] };

/** Plans and writes xattrs; keeps the table of those that are shared. Its memory is bounded, whatever the number of files. */
export class Xattrs {
  readonly #region: Region;
  readonly #seen = new Map<string, number>();
  #seenBytes = 0;
  readonly #bits = new Map<string, number>();
  readonly #prefixed: boolean;
  readonly #redirectBytes: number;
  readonly #overlayBits: number;
  #metacopy = NOT_SHARED;
  #overlayPlan: XattrPlan = NO_XATTRS;
  /** Of entries that have marks, by `overlay` and their values. */
  readonly #marked = new Map<string, XattrPlan>();

  constructor(region: Region, prefixed: boolean) {
    this.#region = region;
    this.#prefixed = prefixed;
    this.#redirectBytes = entryBytes(prefixed ? 0 : REDIRECT.length, REDIRECT_VALUE_BYTES);
    this.#overlayBits = filterBit(XATTR_INDEX.trusted, METACOPY) | filterBit(XATTR_INDEX.trusted, REDIRECT);
  }

  /** Writes the mark that every file without data shares, and the prefix table. Returns the table's place, if there is one. */
  begin(first: Region): number | undefined {
    let prefixesAt: number | undefined;
    if (this.#prefixed) {
      const at = first.reserve(roundUp(2 + 1 + REDIRECT.length, 4), 4);
      first.view.setUint16(at, 1 + REDIRECT.length, true);
      first.view.setUint8(at + 2, XATTR_INDEX.trusted);
      first.bytes.write(REDIRECT, at + 3, 'latin1');
      prefixesAt = first.start + at;
    }
    const at = first.reserve(entryBytes(METACOPY.length, 0), 4);
    writeEntry(first, at, XATTR_INDEX.trusted, METACOPY, 0);
    this.#metacopy = (first.start + at) / 4;
    this.#overlayPlan = {
      bytes: XATTR_HEADER_BYTES + 4 + this.#redirectBytes,
      filterBits: this.#overlayBits,
      shared: [this.#metacopy],
      inline: [],
    };
    return prefixesAt;
  }

  /**
   * The plan for an entry; with `overlay`, the two xattrs by which overlayfs finds a file's data are part of it. Writes those to
   * be shared that are not yet.
   * @param marks further xattrs, not in `user.`, of which many entries have the same values
   */
  plan(entry: Entry, overlay: boolean, marks: readonly Xattr[]): XattrPlan {
    const base = marks.length > 0 ? this.#planMarks(marks, overlay) : overlay ? this.#overlayPlan : NO_XATTRS;
    return entry.xattrs === undefined || entry.xattrs.length === 0 ? base : this.#planUser(entry, entry.xattrs, base);
  }

  /** Writes the body at `at` of `region`, over zeros; with `id`, the redirect to that content. Returns the body's end. */
  write(region: Region, at: number, plan: XattrPlan, id: string | undefined): number {
    if (plan.bytes === 0) return at;
    const { view } = region;
    view.setUint32(at + XATTR_HEADER.filter, ~plan.filterBits, true);
    view.setUint8(at + XATTR_HEADER.sharedCount, plan.shared.length);
    let end = at + XATTR_HEADER_BYTES;
    for (let index = 0; index < plan.shared.length; index += 1) {
      view.setUint32(end, plan.shared[index]!, true);
      end += 4;
    }
    if (id !== undefined) end = this.#writeRedirect(region, end, id);
    for (let index = 0; index < plan.inline.length; index += 1) {
      end += writeXattr(region, end, plan.inline[index]!);
    }
    return end;
  }

  #planMarks(marks: readonly Xattr[], overlay: boolean): XattrPlan {
    const key = `${overlay} ${marks.map(keyOf).join()}`;
    const known = this.#marked.get(key);
    if (known !== undefined) return known;
    let { bytes, filterBits } = overlay ? this.#overlayPlan : NO_XATTRS;
    const shared = overlay ? [...this.#overlayPlan.shared] : [];
    const inline: Xattr[] = [];
    if (bytes === 0) bytes = XATTR_HEADER_BYTES;
    for (const mark of marks) {
      const { index, rest } = split(mark.name);
      filterBits |= filterBit(index, rest);
      const id = this.#share(mark);
      if (id === NOT_SHARED) inline.push(mark);
      else shared.push(id);
      bytes += id === NOT_SHARED ? xattrBytes(mark) : 4;
    }
    const plan = { bytes, filterBits, shared, inline };
    if (this.#marked.size >= MARKS_MAX) this.#marked.clear();
    this.#marked.set(key, plan);
    return plan;
  }

  #writeRedirect(region: Region, at: number, id: string): number {
    const valueAt = this.#prefixed
      ? writeEntry(region, at, XATTR_LONG_PREFIX, '', REDIRECT_VALUE_BYTES)
      : writeEntry(region, at, XATTR_INDEX.trusted, REDIRECT, REDIRECT_VALUE_BYTES);
    const { bytes } = region;
    bytes[valueAt] = 0x2f;
    bytes.write(id, valueAt + 4, 64, 'latin1');
    bytes[valueAt + 1] = bytes[valueAt + 4]!;
    bytes[valueAt + 2] = bytes[valueAt + 5]!;
    bytes[valueAt + 3] = 0x2f;
    return at + this.#redirectBytes;
  }

  #planUser(entry: Entry, xattrs: readonly Xattr[], base: XattrPlan): XattrPlan {
    const candidates: Xattr[] = [];
    const inline: Xattr[] = [];
    let { bytes, filterBits } = base;
    if (bytes === 0) bytes = XATTR_HEADER_BYTES;
    let before = '';
    for (const xattr of xattrs) {
      checkXattr(entry.path, xattr);
      if (xattr.name <= before) {
        throw new CorruptError(
          `${textOf(entry.path)}: its extended attributes are not sorted, at ${textOf(xattr.name)}`,
        );
      }
      before = xattr.name;
      filterBits |= this.#filterBit(xattr.name);
      if (this.#isToShare(xattr)) candidates.push(xattr);
      else inline.push(xattr);
    }
    const room = XATTR_SHARED_MAX - base.shared.length;
    if (candidates.length > room) {
      candidates.sort((a, b) => b.value.length - a.value.length);
      inline.push(...candidates.splice(room));
    }
    const shared = [...base.shared];
    for (const xattr of candidates) {
      const id = this.#share(xattr);
      if (id === NOT_SHARED) inline.push(xattr);
      else shared.push(id);
    }
    bytes += (shared.length - base.shared.length) * 4;
    for (const xattr of inline) bytes += xattrBytes(xattr);
    if (bytes > XATTR_BODY_MAX) {
      throw new InvalidError(
        `${textOf(entry.path)}: its extended attributes take ${bytes} bytes; an image holds ${XATTR_BODY_MAX} for one file, ` +
          `besides its ${XATTR_SHARED_MAX} largest`,
        { facts: { path: textOf(entry.path), bytes, limit: XATTR_BODY_MAX } },
      );
    }
    return { bytes, filterBits, shared, inline: [...base.inline, ...inline] };
  }

  #filterBit(name: ByteString): number {
    const known = this.#bits.get(name);
    if (known !== undefined) return known;
    if (this.#bits.size >= 4096) this.#bits.clear();
    const bit = filterBit(XATTR_INDEX.user, name.slice(USER.length) as ByteString);
    this.#bits.set(name, bit);
    return bit;
  }

  #isToShare(xattr: Xattr): boolean {
    if (xattrBytes(xattr) >= LONG_BYTES) return true;
    const key = keyOf(xattr);
    if (this.#seen.has(key)) return true;
    this.#remember(key, NOT_SHARED);
    return false;
  }

  #share(xattr: Xattr): number {
    const key = keyOf(xattr);
    const known = this.#seen.get(key);
    if (known !== undefined && known !== NOT_SHARED) return known;
    const at = this.#region.reserve(xattrBytes(xattr), 4);
    const id = (this.#region.start + at) / 4;
    if (id >= TWO_32) return NOT_SHARED;
    writeXattr(this.#region, at, xattr);
    if (known === undefined) this.#remember(key, id);
    else this.#seen.set(key, id);
    return id;
  }

  #remember(key: string, id: number): void {
    const cost = key.length + SEEN_OVERHEAD;
    if (this.#seenBytes + cost > SEEN_MAX) {
      this.#seen.clear();
      this.#seenBytes = 0;
    }
    this.#seen.set(key, id);
    this.#seenBytes += cost;
  }
}

/** Room for one entry: its header, name and value, up to a multiple of 4. */
export function entryBytes(nameBytes: number, valueBytes: number): number {
  return (XATTR_ENTRY_BYTES + nameBytes + valueBytes + 3) & ~3;
}

function xattrBytes({ name, value }: Xattr): number {
  return entryBytes(split(name).rest.length, value.length);
}

/** An xattr's name as an image has it. */
function split(name: ByteString): { readonly index: number; readonly rest: ByteString } {
  const { prefix, index } = PREFIXES.find((one) => name.startsWith(one.prefix))!;
  return { index, rest: name.slice(prefix.length) as ByteString };
}

/** Returns how many bytes it takes. */
function writeXattr(region: Region, at: number, xattr: Xattr): number {
  const { index, rest } = split(xattr.name);
  const valueAt = writeEntry(region, at, index, rest, xattr.value.length);
  xattr.value.copy(region.bytes, valueAt);
  return xattrBytes(xattr);
}

/** The bit of the name filter that stands for this name (without its index's prefix). */
export function filterBit(index: number, name: ByteString): number {
  return 1 << (xxh32(bufferOf(name), XATTR_FILTER_SEED + index) & 31);
}

/** Returns where the value goes. */
function writeEntry(region: Region, at: number, index: number, name: string, valueBytes: number): number {
  const { view, bytes } = region;
  view.setUint8(at, name.length);
  view.setUint8(at + 1, index);
  view.setUint16(at + 2, valueBytes, true);
  if (name.length > 0) bytes.write(name, at + XATTR_ENTRY_BYTES, 'latin1');
  return at + XATTR_ENTRY_BYTES + name.length;
}

function keyOf(xattr: Xattr): string {
  return `${xattr.name}\0${xattr.value.toString('latin1')}`;
}

function checkXattr(path: ByteString, { name, value }: Xattr): void {
  const facts = { path: textOf(path), xattr: textOf(name) };
  const of = `${facts.path}: the extended attribute ${facts.xattr}`;
  if (!name.startsWith(USER) || name.length === USER.length || name.includes('\0')) {
    throw new InvalidError(`${of} cannot be in an image: only names in "user." can`, { facts });
  }
  if (name.length > NAME_BYTES_MAX) {
    throw new InvalidError(`${of} has a name of ${name.length} bytes; Linux allows ${NAME_BYTES_MAX}`, { facts });
  }
  if (value.length > XATTR_VALUE_MAX) {
    throw new InvalidError(`${of} has ${value.length} bytes; an image holds ${XATTR_VALUE_MAX}: make it shorter`, {
      facts,
    });
  }
}
