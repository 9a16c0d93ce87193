import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';

/** A chunk as a manifest knows it. */
export interface ChunkRef {
  readonly id: Digest;
  /** In bytes, uncompressed. */
  readonly length: number;
}

/** Collects the chunks of entries, each once, in the order in which they first appear. */
export class ChunkList {
  #chunks = new Map<Digest, ChunkRef>();

  add(entry: Entry): void {
    if (entry.type !== 'file') return;
    const { content } = entry;
    if (content.kind === 'chunk') this.#add(content.id, entry.size);
    else if (content.kind === 'chunks')
      for (const { chunk, length } of content.parts) if (chunk !== undefined) this.#add(chunk, length);
  }

  /** The chunks so far; the list is empty again. */
  take(): ChunkRef[] {
    const chunks = [...this.#chunks.values()];
    this.#chunks = new Map();
    return chunks;
  }

  #add(id: Digest, length: number): void {
    if (!this.#chunks.has(id)) this.#chunks.set(id, { id, length });
  }
}

/** The chunks of a leaf segment in the order of its locations: of their first appearance. */
export function chunksOf(entries: Iterable<Entry>): ChunkRef[] {
  const list = new ChunkList();
  for (const entry of entries) list.add(entry);
  return list.take();
}
