import { type ByteString, fromBuffer, textOf } from '../../byte-string.ts';
import type { Xattr } from '../../entry.ts';
import { CorruptError, InvalidError } from '../../errors.ts';
import { COMPONENT_LIMIT } from '../../path.ts';
import { BLOCK, isZero, readHeader, type TarHeader } from './header.ts';
import { mergePax, type PaxRecords, paxBytes, paxNumber, paxTime, readPax } from './pax.ts';
import { PullBytes } from './pull-bytes.ts';
import { isPaxSparse, type Run, readOldMap, readPaxMap } from './sparse.ts';

/** Bytes of a file, or a run of zeros that takes no space. */
export type Piece = Buffer | { readonly hole: number };

interface MemberBase {
  /** Safe and relative; empty for the archive's own root. */
  readonly path: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanos: number;
  /** Those in `user.`, sorted by name. */
  readonly xattrs?: readonly Xattr[];
}

export type TarMember = MemberBase &
  (
    | {
        readonly type: 'file';
        readonly size: number;
        /** Must be read before the next member is asked for; what is not read is passed by. A block is good until the next one is asked for. */
        readonly body: AsyncIterable<Piece>;
      }
    | { readonly type: 'directory' }
    | { readonly type: 'symlink'; readonly target: ByteString }
    /** One more name of a file that came before. */
    | { readonly type: 'link'; readonly to: ByteString }
    | { readonly type: 'device' }
    | { readonly type: 'fifo' }
  );

/** Extended headers of one member may have so many bytes. */
const EXTENDED_LIMIT = 16 << 20;
const UNIT = 1 << 20;

/**
 * The members of a tar archive in their order: ustar, pax and GNU's forms. One that is damaged or cut short is a CorruptError; what is no
 * archive, or has a member whose name leads out of the tree, which it names, is an InvalidError.
 * @param name the archive, for messages
 */
export async function* readTar(stream: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<TarMember> {
  const bytes = new PullBytes(stream);
  try {
    yield* new TarReader(bytes, name).members();
    // What made the stream is to see all of it taken, and a checksum at its end is to be compared.
    while ((await bytes.some(UNIT)) !== undefined);
  } finally {
    await bytes.close();
  }
}

class TarReader {
  readonly #bytes: PullBytes;
  readonly #name: string;
  #global: PaxRecords = new Map();

  constructor(bytes: PullBytes, name: string) {
    this.#bytes = bytes;
    this.#name = name;
  }

  async *members(): AsyncGenerator<TarMember> {
    let own: PaxRecords | undefined;
    let longName: ByteString | undefined;
    let longLink: ByteString | undefined;
    for (;;) {
      const at = this.#bytes.position;
      const block = Buffer.from(await this.#bytes.exactly(BLOCK));
      if (block.length < BLOCK) {
        if (at === 0) throw this.#noArchive();
        throw this.#cutShort();
      }
      if (isZero(block)) {
        if (own !== undefined || longName !== undefined || longLink !== undefined) throw this.#cutShort();
        return;
      }
      const header = readHeader(block);
      if (typeof header === 'string') {
        if (at === 0) throw this.#noArchive();
        throw this.#fault(`is damaged: the header at byte ${at} is none, ${header}`);
      }
      switch (header.type) {
        case 'x':
        case 'X':
          own = await this.#records(header);
          continue;
        case 'g':
          this.#global = mergePax(this.#global, await this.#records(header));
          continue;
        case 'L':
          longName = await this.#longText(header);
          continue;
        case 'K':
          longLink = await this.#longText(header);
          continue;
        // The archive's label, which is no member.
        case 'V':
          if (!(await this.#bytes.skip(padded(header.size)))) throw this.#cutShort();
          continue;
        case 'M':
          throw this.#fault('is a volume of a larger archive, which must be put together first');
      }
      const records = own ? mergePax(this.#global, own) : this.#global;
      const named = paxBytes(records, 'GNU.sparse.name') ?? paxBytes(records, 'path') ?? longName ?? header.name;
      const link = paxBytes(records, 'linkpath') ?? longLink ?? header.link;
      [own, longName, longLink] = [undefined, undefined, undefined];
      yield* this.#member(header, block, records, named, link);
    }
  }

  async *#member(
    header: TarHeader,
    block: Buffer,
    records: PaxRecords,
    named: ByteString,
    link: ByteString,
  ): AsyncGenerator<TarMember> {
    const shown = textOf(named);
    const path = this.#safe(named, shown);
    if (path === '' && header.type !== '5' && header.type !== 'D' && !named.endsWith('/'))
      throw this.#fault(`is damaged: the member '${shown}' has no name`);
    const size = paxNumber(records, 'size') ?? header.size;
    const time = paxBytes(records, 'mtime');
    const mtime = time === undefined ? { seconds: header.mtime, nanos: 0 } : paxTime(time);
    const uid = paxNumber(records, 'uid') ?? header.uid;
    const gid = paxNumber(records, 'gid') ?? header.gid;
    if (!(size >= 0) || !Number.isSafeInteger(size)) throw this.#fault(`is damaged: the member '${shown}' has no size`);
    if (mtime === undefined) throw this.#fault(`is damaged: the member '${shown}' has the time '${textOf(time!)}'`);
    for (const owner of [uid, gid])
      if (!(owner >= 0 && owner <= 0xffff_fffe))
        throw this.#fault(`is damaged: the member '${shown}' has the owner ${uid}:${gid}`);
    const xattrs = xattrsOf(records);
    const base: MemberBase = {
      path,
      mode: header.mode & 0o7777,
      uid,
      gid,
      mtimeSeconds: mtime.seconds,
      mtimeNanos: mtime.nanos,
      ...(xattrs.length > 0 && { xattrs }),
    };
    switch (header.type) {
      // Nothing follows the headers of links, devices and directories, whatever their size says.
      case '1':
        yield { ...base, type: 'link', to: this.#safe(link, shown) };
        return;
      case '2':
        if (link === '' || link.length > 4095 || link.includes('\0'))
          throw new InvalidError(`the member '${shown}' of ${this.#name} is a symbolic link to nowhere`, {
            facts: { member: shown },
          });
        yield { ...base, type: 'symlink', target: link };
        return;
      case '3':
      case '4':
        yield { ...base, type: 'device' };
        return;
      case '6':
        yield { ...base, type: 'fifo' };
        return;
      case '5':
        yield { ...base, type: 'directory' };
        return;
      // GNU's directories of incremental archives have a list behind them.
      case 'D':
        if (!(await this.#bytes.skip(padded(size)))) throw this.#cutShort();
        yield { ...base, type: 'directory' };
        return;
    }
    // Before POSIX, a directory was a file whose name ends with a slash.
    if (named.endsWith('/') && size === 0) {
      yield { ...base, type: 'directory' };
      return;
    }
    yield* this.#file(base, header, block, records, size, shown);
  }

  async *#file(
    base: MemberBase,
    header: TarHeader,
    block: Buffer,
    records: PaxRecords,
    stored: number,
    shown: string,
  ): AsyncGenerator<TarMember> {
    const isSparse = header.type === 'S' || isPaxSparse(records);
    const map = isSparse
      ? header.type === 'S'
        ? await readOldMap(block, this.#bytes)
        : await readPaxMap(records, this.#bytes)
      : { runs: stored === 0 ? [] : [{ offset: 0, length: stored }], size: stored, mapBytes: 0 };
    const data = map?.runs.reduce((sum, { length }) => sum + length, 0);
    if (map === undefined || data !== stored - map.mapBytes)
      throw this.#fault(`is damaged: the map of the sparse member '${shown}' does not fit`);
    const body = new Body(this.#bytes, map.runs, map.size, padded(stored) - stored, () => this.#cutShort());
    yield { ...base, type: 'file', size: map.size, body };
    await body.finish();
  }

  async #records(header: TarHeader): Promise<PaxRecords> {
    const records = readPax(await this.#extended(header));
    if (records === undefined)
      throw this.#fault(`is damaged: the extended header before byte ${this.#bytes.position} is none`);
    return records;
  }

  /** GNU's long names end with a NUL byte. */
  async #longText(header: TarHeader): Promise<ByteString> {
    const bytes = await this.#extended(header);
    const end = bytes.indexOf(0);
    return fromBuffer(end < 0 ? bytes : bytes.subarray(0, end));
  }

  async #extended({ size }: TarHeader): Promise<Buffer> {
    if (size > EXTENDED_LIMIT) throw this.#fault(`is damaged: an extended header has ${size} bytes`);
    const bytes = Buffer.from(await this.#bytes.exactly(size));
    if (bytes.length < size || !(await this.#bytes.skip(padded(size) - size))) throw this.#cutShort();
    return bytes;
  }

  /** A member's name as a path: without `.` and doubled slashes. What leads elsewhere is refused. */
  #safe(named: ByteString, shown: string): ByteString {
    const refuse = (why: string) =>
      new InvalidError(`${this.#name} has the member '${shown}', ${why}: nothing was imported`, {
        facts: { member: shown },
      });
    if (named.startsWith('/')) throw refuse("whose name begins with '/'");
    const parts: string[] = [];
    for (const part of named.split('/')) {
      if (part === '' || part === '.') continue;
      if (part === '..') throw refuse("whose name has the part '..'");
      if (part.length > COMPONENT_LIMIT)
        throw refuse(`whose name has a part of ${part.length} bytes, more than ${COMPONENT_LIMIT}`);
      if (part.includes('\0')) throw refuse('whose name has a NUL byte');
      parts.push(part);
    }
    if (named === '') throw refuse('which has no name');
    return parts.join('/') as ByteString;
  }

  #noArchive(): InvalidError {
    return new InvalidError(`${this.#name} is no tar archive: give one, a directory or s3://BUCKET/PREFIX`);
  }

  #cutShort(): CorruptError {
    return this.#fault(
      `ends at byte ${this.#bytes.position}, before the archive's end: it was cut short, so nothing was imported`,
    );
  }

  #fault(what: string): CorruptError {
    return new CorruptError(`${this.#name} ${what}`);
  }
}

/** The bytes of one member, with its holes. */
class Body implements AsyncIterable<Piece> {
  readonly #bytes: PullBytes;
  readonly #runs: readonly Run[];
  readonly #size: number;
  readonly #cutShort: () => Error;
  /** Bytes that are still in the archive, with those that fill the last block. */
  #left: number;

  constructor(bytes: PullBytes, runs: readonly Run[], size: number, filler: number, cutShort: () => Error) {
    this.#bytes = bytes;
    this.#runs = runs;
    this.#size = size;
    this.#cutShort = cutShort;
    this.#left = filler + runs.reduce((sum, { length }) => sum + length, 0);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece> {
    let at = 0;
    for (const { offset, length } of this.#runs) {
      if (offset > at) yield { hole: offset - at };
      for (let left = length; left > 0; ) {
        const piece = await this.#bytes.some(left);
        if (piece === undefined) throw this.#cutShort();
        left -= piece.length;
        this.#left -= piece.length;
        yield piece;
      }
      at = offset + length;
    }
    if (at < this.#size) yield { hole: this.#size - at };
  }

  /** Passes by what was not read. */
  async finish(): Promise<void> {
    if (!(await this.#bytes.skip(this.#left))) throw this.#cutShort();
  }
}

/** Attributes as star and GNU tar keep them: `SCHILY.xattr.` and the name, in which '%' and '=' are escaped. */
function xattrsOf(records: PaxRecords): Xattr[] {
  const xattrs: Xattr[] = [];
  for (const [keyword, values] of records) {
    if (!keyword.startsWith('SCHILY.xattr.user.')) continue;
    const name = keyword.slice('SCHILY.xattr.'.length).replaceAll('%3D', '=').replaceAll('%25', '%') as ByteString;
    const value = values.at(-1)!;
    if (name.length <= 255 && name.length > 'user.'.length) xattrs.push({ name, value });
  }
  return xattrs.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}
