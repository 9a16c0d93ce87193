import { BLOCK, DIRENT, DIRENT_BYTES, DIRENT_TYPE, type DirentType, TWO_32 } from './layout.ts';

/** No block holds more entries: a name has a byte at least. */
const ENTRIES_MAX = Math.floor(BLOCK / (DIRENT_BYTES + 1));
/** What a directory that has been closed may keep for the next one of its depth. */
const KEEP_BYTES = 1 << 20;

/**
 * The blocks of one open directory, filled in the order of the names; `.` and `..` take their places among them. Reused for
 * every directory of its depth. It holds all of a directory's names (12 bytes and the name for each entry): a directory's blocks
 * are contiguous, and what is below its subdirectories is written before it ends.
 */
export class DirectoryBlocks {
  /** Whole blocks; only `size` bytes of them are the directory's. */
  data: Buffer = Buffer.alloc(BLOCK);
  view: DataView = new DataView(this.data.buffer, this.data.byteOffset, this.data.length);
  /** In bytes, so far. */
  size = 0;
  /** Where in `data` the entries `.` and `..` lie, once finished. */
  selfAt = 0;
  parentAt = 0;
  #blockAt = 0;
  #count = 0;
  #nameEnd = 0;
  #dots = 0;
  readonly #names = Buffer.alloc(BLOCK);
  readonly #nameStarts = new Uint16Array(ENTRIES_MAX);
  readonly #nids = new Float64Array(ENTRIES_MAX);
  readonly #types = new Uint8Array(ENTRIES_MAX);

  clear(): void {
    if (this.data.length > KEEP_BYTES) this.#resize(BLOCK);
    this.size = 0;
    this.#blockAt = 0;
    this.#count = 0;
    this.#nameEnd = 0;
    this.#dots = 0;
  }

  /** Appends the entry whose name is `path` from `start` on. Returns false when the name has a NUL, or code units over a byte. */
  add(path: string, start: number, nid: number, type: DirentType): boolean {
    if (this.#dots < 2) this.#addDots(path.slice(start));
    return this.#put(path, start, nid, type);
  }

  /** Puts in what is still missing; `data` is whole then. */
  finish(): void {
    this.#addDots(undefined);
    this.#closeBlock();
  }

  setNid(at: number, nid: number): void {
    this.view.setUint32(at + DIRENT.nid, nid >>> 0, true);
    this.view.setUint32(at + DIRENT.nid + 4, (nid / TWO_32) >>> 0, true);
  }

  #addDots(before: string | undefined): void {
    if (this.#dots === 0 && (before === undefined || before > '.')) {
      this.#put('.', 0, 0, DIRENT_TYPE.directory);
      this.selfAt = this.#blockAt + (this.#count - 1) * DIRENT_BYTES;
      this.#dots = 1;
    }
    if (this.#dots === 1 && (before === undefined || before > '..')) {
      this.#put('..', 0, 0, DIRENT_TYPE.directory);
      this.parentAt = this.#blockAt + (this.#count - 1) * DIRENT_BYTES;
      this.#dots = 2;
    }
  }

  #put(path: string, start: number, nid: number, type: DirentType): boolean {
    const length = path.length - start;
    if ((this.#count + 1) * DIRENT_BYTES + this.#nameEnd + length > BLOCK) this.#closeBlock();
    const names = this.#names;
    let at = this.#nameEnd;
    const index = this.#count;
    this.#nameStarts[index] = at;
    this.#nids[index] = nid;
    this.#types[index] = type;
    let lowest = 1;
    let highest = 0;
    for (let unit = start; unit < path.length; unit += 1) {
      const code = path.charCodeAt(unit);
      names[at] = code;
      lowest |= code - 1;
      highest |= code;
      at += 1;
    }
    this.#nameEnd = at;
    this.#count = index + 1;
    this.size = this.#blockAt + this.#count * DIRENT_BYTES + at;
    return lowest >= 0 && highest <= 0xff;
  }

  #closeBlock(): void {
    const count = this.#count;
    if (count === 0) return;
    const block = this.#blockAt;
    if (block + BLOCK > this.data.length) this.#resize(this.data.length * 2);
    const { data, view } = this;
    const namesAt = count * DIRENT_BYTES;
    let at = block;
    for (let index = 0; index < count; index += 1) {
      const nid = this.#nids[index]!;
      view.setUint32(at + DIRENT.nid, nid >>> 0, true);
      view.setUint32(at + DIRENT.nid + 4, (nid / TWO_32) >>> 0, true);
      view.setUint16(at + DIRENT.nameOffset, namesAt + this.#nameStarts[index]!, true);
      view.setUint16(at + DIRENT.type, this.#types[index]!, true);
      at += DIRENT_BYTES;
    }
    this.#names.copy(data, at, 0, this.#nameEnd);
    data.fill(0, at + this.#nameEnd, block + BLOCK);
    this.#blockAt = block + BLOCK;
    this.#count = 0;
    this.#nameEnd = 0;
  }

  #resize(bytes: number): void {
    const data = Buffer.alloc(bytes);
    this.data.copy(data, 0, 0, Math.min(this.#blockAt, bytes));
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, bytes);
  }
}
