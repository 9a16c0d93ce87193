import { join } from 'node:path';
import { type Database, openDatabase, openDatabaseReader } from '../system/database.ts';
import { type Digest, digestFromBytes, digestToBytes, isDigest } from './digest.ts';
import { LarderError, NotFoundError } from './errors.ts';
import { LOCATIONS } from './keys.ts';
import { type ChunkLocation, readLocations } from './location.ts';
import { mapAhead } from './map-ahead.ts';
import type { Repository } from './repository.ts';
import { stateDirectory } from './state-directory.ts';

/** What a writer knows of the chunks that a repository has. It may lack some, and some may be gone: nothing else relies on it. */
const schema = `
  CREATE TABLE packs (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE);
  CREATE TABLE chunks (
    id BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL, stored INTEGER NOT NULL, length INTEGER NOT NULL,
    codec INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE segments (digest BLOB PRIMARY KEY) WITHOUT ROWID;
`;

const CACHE_KIB = 32 * 1024;
/** Chunks learned that wait to be written: written together and in order, neighbours in the table are written once. */
const WAITING = 16_384;
/** Leaves whose locations are read at once. */
const LEAVES_AHEAD = 8;

/** The file of a repository's chunk index: one for each repository and user. */
export function chunkIndexFile(repositoryId: string, directory = stateDirectory()): string {
  return join(directory, 'repositories', repositoryId, 'chunks.db');
}

export interface ChunkIndexOptions {
  /** Where indexes are kept; `stateDirectory()` if not said. */
  readonly directory?: string;
}

/** Opens the index, empty if there is none; then `refresh` fills it. */
export function openChunkIndex(repository: Pick<Repository, 'id'>, options: ChunkIndexOptions = {}): ChunkIndex {
  const file = chunkIndexFile(repository.id, options.directory);
  return new ChunkIndex(openDatabase({ file, schema, cacheKib: CACHE_KIB }).database);
}

/** For other threads and processes: look-ups beside whoever writes. Undefined where there is no index. */
export function openChunkIndexReader(
  repository: Pick<Repository, 'id'>,
  options: ChunkIndexOptions = {},
): ChunkLookup | undefined {
  const file = chunkIndexFile(repository.id, options.directory);
  const database = openDatabaseReader({ file, schema, cacheKib: CACHE_KIB });
  return database === undefined ? undefined : new ChunkLookup(database);
}

type Row = [pack: number, offset: number, stored: number, length: number, codec: number];

export class ChunkLookup implements Disposable {
  protected readonly database: Database;
  readonly #find;
  readonly #packId;
  /** Pack ids by number. A number is never used for another pack. */
  readonly #packs = new Map<number, Digest>();
  readonly #begin;
  readonly #end;
  #burst: NodeJS.Immediate | undefined;

  constructor(database: Database) {
    this.database = database;
    this.#find = database
      .prepare<[Buffer], Row>('SELECT pack, offset, stored, length, codec FROM chunks WHERE id = ?')
      .raw();
    this.#packId = database.prepare<[number], Buffer>('SELECT id FROM packs WHERE number = ?').pluck();
    this.#begin = database.prepare('BEGIN');
    this.#end = database.prepare('COMMIT');
  }

  /** Where a chunk lies, as far as is known. Whether the pack still exists is for the caller to check before relying on it. */
  find(id: Digest): ChunkLocation | undefined {
    this.#startBurst();
    const row = this.#find.get(digestToBytes(id));
    if (row === undefined) return undefined;
    const [number, offset, stored, length, codec] = row;
    let pack = this.#packs.get(number);
    if (pack === undefined) {
      pack = digestFromBytes(this.#packId.get(number)!);
      this.#packs.set(number, pack);
    }
    return { id, pack, offset, stored, length, codec: codec === 1 ? 'zstd' : 'raw' };
  }

  close(): void {
    this.endBurst();
    this.database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** To be called before every write. */
  protected endBurst(): void {
    if (this.#burst === undefined) return;
    clearImmediate(this.#burst);
    this.#burst = undefined;
    this.#end.run();
  }

  /** Look-ups of one turn of the event loop share a transaction: starting one costs more than the look-up. */
  #startBurst(): void {
    if (this.#burst !== undefined) return;
    this.#begin.run();
    this.#burst = setImmediate(() => this.endBurst());
  }
}

export interface RefreshResult {
  /** Leaf segments whose chunks were added, and those chunks. */
  readonly segments: number;
  readonly chunks: number;
  /** What could not be read; its chunks are not in the index. */
  readonly failures: readonly LarderError[];
}

export class ChunkIndex extends ChunkLookup {
  readonly #packNumber;
  readonly #addPack;
  readonly #addChunk;
  readonly #addSegment;
  readonly #hasSegment;
  readonly #countChunks;
  /** Learned and not yet written. */
  readonly #waiting = new Map<Digest, ChunkLocation>();
  readonly #waitingSegments = new Set<Digest>();

  constructor(database: Database) {
    super(database);
    this.#packNumber = database.prepare<[Buffer], number>('SELECT number FROM packs WHERE id = ?').pluck();
    this.#addPack = database.prepare<[Buffer]>('INSERT INTO packs (id) VALUES (?)');
    this.#addChunk = database.prepare<[Buffer, number, number, number, number, number]>(
      'INSERT OR REPLACE INTO chunks (id, pack, offset, stored, length, codec) VALUES (?, ?, ?, ?, ?, ?)',
    );
    this.#addSegment = database.prepare<[Buffer]>('INSERT OR IGNORE INTO segments (digest) VALUES (?)');
    this.#hasSegment = database.prepare<[Buffer], number>('SELECT 1 FROM segments WHERE digest = ?').pluck();
    this.#countChunks = database.prepare<[], number>('SELECT count(*) FROM chunks').pluck();
  }

  override find(id: Digest): ChunkLocation | undefined {
    return this.#waiting.get(id) ?? super.find(id);
  }

  /** Chunks known. Counts them: not for every chunk. */
  get size(): number {
    this.flush();
    return this.#countChunks.get()!;
  }

  /** Learns where chunks lie; of a known chunk, the new place. Other threads and processes see it after a `flush`. */
  insert(locations: Iterable<ChunkLocation>): void {
    for (const location of locations) this.#waiting.set(location.id, location);
    if (this.#waiting.size >= WAITING) this.flush();
  }

  /** Learns a segment's chunks, and that `refresh` need not read them. */
  insertSegment(segment: Digest, locations: Iterable<ChunkLocation>): void {
    this.#waitingSegments.add(segment);
    this.insert(locations);
    if (this.#waitingSegments.size >= WAITING) this.flush();
  }

  /** Writes what was learned, in one transaction. A crash before it loses only knowledge. */
  flush(): void {
    if (this.#waiting.size + this.#waitingSegments.size === 0) return;
    this.endBurst();
    this.database
      .transaction(() => {
        this.#insert([...this.#waiting.values()].sort((a, b) => (a.id < b.id ? -1 : 1)));
        for (const segment of this.#waitingSegments) this.#addSegment.run(digestToBytes(segment));
      })
      .immediate();
    this.#waiting.clear();
    this.#waitingSegments.clear();
  }

  override close(): void {
    try {
      this.flush();
    } finally {
      super.close();
    }
  }

  /** Forgets all chunks of a pack that turned out not to exist. @returns how many */
  forgetPack(pack: Digest): number {
    return this.forgetPacks([pack]);
  }

  /**
   * Forgets all chunks of packs that are gone, or not to be relied on; one pass over the table, however many packs. A leaf whose chunks were
   * taken in is not read again by `refresh`: whoever moved chunks elsewhere tells where by `insert`. Until then they count as unknown, and
   * may be stored again.
   * @returns how many
   */
  forgetPacks(packs: Iterable<Digest>): number {
    this.flush();
    this.endBurst();
    return this.database
      .transaction(() => {
        this.database.exec('CREATE TEMP TABLE IF NOT EXISTS forgotten (number INTEGER PRIMARY KEY)');
        const forget = this.database.prepare('INSERT OR IGNORE INTO forgotten (number) VALUES (?)');
        let known = 0;
        for (const pack of packs) {
          const number = this.#packNumber.get(digestToBytes(pack));
          if (number !== undefined) known += forget.run(number).changes;
        }
        if (known === 0) return 0;
        const { changes } = this.database
          .prepare('DELETE FROM chunks WHERE pack IN (SELECT number FROM forgotten)')
          .run();
        this.database.exec('DELETE FROM packs WHERE number IN (SELECT number FROM forgotten); DELETE FROM forgotten');
        return changes;
      })
      .immediate();
  }

  /** Lets the next `refresh` read all locations again: chunks were moved. What is known of chunks stays until then. */
  forgetSegments(): void {
    this.flush();
    this.endBurst();
    this.database.exec('DELETE FROM segments');
  }

  /** Forgets everything, for a `refresh` from the start. */
  clear(): void {
    this.#waiting.clear();
    this.#waitingSegments.clear();
    this.endBurst();
    this.database.exec('BEGIN IMMEDIATE; DELETE FROM chunks; DELETE FROM packs; DELETE FROM segments; COMMIT');
  }

  /**
   * Learns the chunks of every segment whose locations are in the repository and were not read before: all of them for a new
   * index. Memory does not grow with their number.
   */
  async refresh(
    repository: Repository,
    options: { readonly signal?: AbortSignal; readonly onProgress?: (segments: number, chunks: number) => void } = {},
  ): Promise<RefreshResult> {
    const { signal, onProgress } = options;
    const failures: LarderError[] = [];
    const read = mapAhead(this.#unknownSegments(repository, signal), LEAVES_AHEAD, async (segment) => {
      try {
        return { segment, locations: [...(await readLocations(repository, segment, { signal })).values()] };
      } catch (error) {
        if (!(error instanceof LarderError)) throw error;
        // Locations come before their segment: without one, they are what a crash left.
        if (!(error.cause instanceof NotFoundError)) failures.push(error);
        return undefined;
      }
    });
    let segments = 0;
    let chunks = 0;
    for await (const found of read) {
      signal?.throwIfAborted();
      if (found === undefined) continue;
      this.insertSegment(found.segment, found.locations);
      segments += 1;
      chunks += found.locations.length;
      onProgress?.(segments, chunks);
    }
    this.flush();
    return { segments, chunks, failures };
  }

  async *#unknownSegments(repository: Repository, signal: AbortSignal | undefined): AsyncGenerator<Digest> {
    for await (const { key } of repository.bucket.list(LOCATIONS, { signal })) {
      const segment = key.slice(key.lastIndexOf('/') + 1);
      if (!isDigest(segment) || this.#waitingSegments.has(segment)) continue;
      if (this.#hasSegment.get(digestToBytes(segment)) === undefined) yield segment;
    }
  }

  #insert(locations: Iterable<ChunkLocation>): void {
    const numbers = new Map<Digest, number>();
    for (const { id, pack, offset, stored, length, codec } of locations) {
      let number = numbers.get(pack);
      if (number === undefined) {
        const bytes = digestToBytes(pack);
        number = this.#packNumber.get(bytes) ?? Number(this.#addPack.run(bytes).lastInsertRowid);
        numbers.set(pack, number);
      }
      this.#addChunk.run(digestToBytes(id), number, offset, stored, length, codec === 'zstd' ? 1 : 0);
    }
  }
}
