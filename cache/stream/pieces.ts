import type { Digest } from '../../dataset/digest.ts';
import type { Part, SourceContent } from '../../dataset/entry.ts';
import type { Place } from '../segment-reader.ts';

/** How much of a source is read at a time, in bytes. */
export const SOURCE_PIECE_BYTES = 4 * 1024 * 1024;

/**
 * A file as pieces in order, each of which is fetched whole: chunks and holes, or ranges of a source. They are the same for one
 * content id on every node, for the id is a digest of them.
 */
export interface Pieces {
  readonly count: number;
  /** In bytes. */
  readonly size: number;
  readonly source?: SourceContent;
  /** Where the piece begins, in bytes; of `count`, the file's end. */
  offset(at: number): number;
  length(at: number): number;
  isHole(at: number): boolean;
  /** Undefined for a hole, and of a source. */
  chunk(at: number): Digest | undefined;
  /** A name for its bytes that no other bytes have. */
  key(at: number): string;
  /** The piece that has this byte, which is in the file. */
  find(offset: number): number;
}

export function piecesOf({ content, size }: Pick<Place, 'content' | 'size'>): Pieces {
  if (content.kind === 'source') return sourcePieces(content, size);
  return partPieces(content.kind === 'chunk' ? [{ chunk: content.id, length: size }] : content.parts);
}

function partPieces(parts: readonly Part[]): Pieces {
  const offsets = new Float64Array(parts.length + 1);
  parts.forEach(({ length }, at) => {
    offsets[at + 1] = offsets[at]! + length;
  });
  const count = parts.length;
  return {
    count,
    size: offsets[count]!,
    offset: (at) => offsets[at]!,
    length: (at) => parts[at]!.length,
    isHole: (at) => parts[at]!.chunk === undefined,
    chunk: (at) => parts[at]!.chunk,
    key: (at) => parts[at]!.chunk!,
    find: (offset) => {
      let from = 0;
      let to = count - 1;
      while (from < to) {
        const middle = (from + to + 1) >>> 1;
        if (offsets[middle]! <= offset) from = middle;
        else to = middle - 1;
      }
      return from;
    },
  };
}

function sourcePieces(source: SourceContent, size: number): Pieces {
  const offset = (at: number) => Math.min(size, at * SOURCE_PIECE_BYTES);
  return {
    count: Math.ceil(size / SOURCE_PIECE_BYTES),
    size,
    source,
    offset,
    length: (at) => offset(at + 1) - offset(at),
    isHole: () => false,
    chunk: () => undefined,
    key: (at) => `${source.id}#${at}`,
    find: (position) => Math.floor(position / SOURCE_PIECE_BYTES),
  };
}
