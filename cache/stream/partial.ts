import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type Digest, isDigest } from '../../dataset/digest.ts';
import type { Layout } from '../layout.ts';
import type { Pieces } from './pieces.ts';
import { Presence } from './presence.ts';
import type { Landing } from './stream-job.ts';

/*
 * A file of which a part is in the cache: `partial/<content id>`, sparse, of the file's size, and beside it `<content id>.marks`:
 *
 *     offset  bytes  what
 *     0       8      "LARDERPM"
 *     8       4      format: 1, little-endian
 *     12      4      zeros
 *     16      36     the boot's id, ASCII
 *     52      12     zeros
 *     64      n      for each piece: 1 when its bytes are there, verified, else 0
 *
 * A mark is written after the bytes, by the same thread: what a killed daemon leaves can be believed, since the kernel has both. Of
 * another boot it cannot: the disk may have the mark without the bytes.
 */
const MAGIC = Buffer.from('LARDERPM', 'latin1');
const FORMAT = 1;
const HEADER_BYTES = 64;
const MARKS = '.marks';

export interface PartialOptions {
  readonly layout: Layout;
  readonly bootId: string;
  readonly id: Digest;
  readonly pieces: Pieces;
}

/** A partial file that this process reads and writes. */
export interface Partial {
  readonly file: string;
  readonly descriptor: number;
  readonly presence: Presence;
  /** Where the piece goes. */
  landing(at: number): Landing;
  /** What it takes on the disk. */
  bytes(): number;
  /** It is the object: its marks go. */
  adopted(): void;
  /** Its names go; the descriptors stay until `close`. @returns what it takes on the disk until then, in bytes */
  unlink(): number;
  /** To be called when no job writes to it and nobody reads. */
  close(): void;
}

/** A partial file that no process has open, maybe. */
export interface IdlePartial {
  readonly id: Digest;
  /** What it takes on the disk. */
  readonly bytes: number;
  /** When something was last written to it, in milliseconds. */
  readonly written: number;
}

export function partialFolder(layout: Layout): string {
  return `${layout.directory}/partial`;
}

/** Takes over what is there of the file, or begins it. */
export function openPartial({ layout, bootId, id, pieces }: PartialOptions): Partial {
  const folder = partialFolder(layout);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = `${folder}/${id}`;
  const marksFile = file + MARKS;
  const kept = keptMarks(file, marksFile, bootId, pieces);
  if (!kept) removePartial(layout, id);
  const descriptor = openSync(file, kept ? 'r+' : 'wx+', 0o600);
  let marks: number | undefined;
  try {
    marks = openSync(marksFile, kept ? 'r+' : 'wx+', 0o600);
    if (!kept) {
      ftruncateSync(descriptor, pieces.size);
      const header = Buffer.alloc(HEADER_BYTES);
      MAGIC.copy(header);
      header.writeUInt32LE(FORMAT, 8);
      header.write(bootId, 16, 36, 'latin1');
      // Its length is what tells that the header is whole.
      writeSync(marks, header, 0, HEADER_BYTES, 0);
      ftruncateSync(marks, HEADER_BYTES + pieces.count);
    }
  } catch (error) {
    closeSync(descriptor);
    if (marks !== undefined) closeSync(marks);
    if (!kept) removePartial(layout, id);
    throw error;
  }
  const marksDescriptor = marks;
  const presence = new Presence(pieces);
  kept?.forEach((mark, at) => {
    if (mark === 1) presence.add(at);
  });
  return {
    file,
    descriptor,
    presence,
    landing: (at) => ({
      file: descriptor,
      position: pieces.offset(at),
      marks: marksDescriptor,
      mark: HEADER_BYTES + at,
    }),
    bytes: () => fstatSync(descriptor).blocks * 512,
    adopted: () => rmSync(marksFile, { force: true }),
    unlink: () => {
      removePartial(layout, id);
      return fstatSync(descriptor).blocks * 512;
    },
    close: () => {
      closeSync(descriptor);
      closeSync(marksDescriptor);
    },
  };
}

/** Whether something of a file is there that could be taken over. */
export function hasPartial(layout: Layout, id: Digest): boolean {
  return existsSync(`${partialFolder(layout)}/${id}${MARKS}`);
}

export function removePartial(layout: Layout, id: Digest): void {
  const file = `${partialFolder(layout)}/${id}`;
  // Marks without bytes must never be.
  rmSync(file + MARKS, { force: true });
  rmSync(file, { force: true });
}

/** Those on the disk, the longest unwritten first; what no next daemon could use is removed. */
export function listPartials(layout: Layout, bootId: string): IdlePartial[] {
  const folder = partialFolder(layout);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found: IdlePartial[] = [];
  const names = new Set(readdirSync(folder));
  const ids = new Set([...names].map((name) => (name.endsWith(MARKS) ? name.slice(0, -MARKS.length) : name)));
  for (const id of ids) {
    if (!isDigest(id)) continue;
    if (!names.has(id) || !names.has(id + MARKS) || !isOfBoot(`${folder}/${id}${MARKS}`, bootId)) {
      removePartial(layout, id);
    } else {
      const { blocks, mtimeMs } = statSync(`${folder}/${id}`);
      found.push({ id, bytes: blocks * 512, written: mtimeMs });
    }
  }
  return found.sort((a, b) => a.written - b.written);
}

function isOfBoot(marksFile: string, bootId: string): boolean {
  const descriptor = openSync(marksFile, 'r');
  try {
    if (fstatSync(descriptor).size <= HEADER_BYTES) return false;
  } finally {
    closeSync(descriptor);
  }
  return headerFits(readFileSync(marksFile), bootId);
}

function keptMarks(file: string, marksFile: string, bootId: string, pieces: Pieces): Uint8Array | undefined {
  if (!existsSync(file) || !existsSync(marksFile)) return undefined;
  const marks = readFileSync(marksFile);
  if (marks.length !== HEADER_BYTES + pieces.count || !headerFits(marks, bootId)) return undefined;
  if (statSync(file).size !== pieces.size) return undefined;
  return marks.subarray(HEADER_BYTES);
}

function headerFits(marks: Buffer, bootId: string): boolean {
  const boot = marks.toString('latin1', 16, 52).replace(/\0+$/, '');
  return marks.subarray(0, 8).equals(MAGIC) && marks.readUInt32LE(8) === FORMAT && boot === bootId;
}
