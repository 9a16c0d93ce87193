import { join } from 'node:path';
import { type Database, openDatabase, openDatabaseReader } from '../../system/database.ts';
import { type ByteString, bufferOf, fromBuffer } from '../byte-string.ts';
import { type Digest, isDigest, sha256 } from '../digest.ts';
import { nameOf, parentOf } from '../path.ts';
import { stateDirectory } from '../state-directory.ts';
import { COLUMN, decodeListing, encodeListing, NEVER, namesOf } from './listing.ts';
import type { KeptListings, KeptPiece } from './scan.ts';
import type { Keep } from './walk.ts';

/*
 * What the last import of one directory to one branch left behind, so that the next one knows what has not changed: which version
 * it made, the root's own facts, and the listing of each directory, a large one in pieces. A file of its own for each, since an import
 * writes it in one transaction that is open until the version is published. It may be deleted: the next import then reads everything.
 */
const schema = `
  CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE pieces (
    directory BLOB NOT NULL,
    first BLOB NOT NULL,
    -- Of the directory's raw listing; only the first piece has it.
    digest TEXT NOT NULL,
    listing BLOB NOT NULL,
    PRIMARY KEY (directory, first)
  );
`;

/** The file for imports of `source` (its real path) to a branch of a dataset. */
export function statCacheFile(
  repositoryId: string,
  { source, dataset, branch }: { readonly source: ByteString; readonly dataset: string; readonly branch: string },
): string {
  const name = sha256(JSON.stringify([source, dataset, branch])).slice(0, 32);
  return join(stateDirectory(), 'repositories', repositoryId, 'imports', `${name}.db`);
}

/** The writer's side: one import at a time. */
export class StatCache {
  readonly #database: Database;
  readonly #statements: Statements;

  /** Opens the file, made if need be. */
  constructor(file: string) {
    this.#database = openDatabase({ file, schema }).database;
    this.#statements = prepare(this.#database);
  }

  /** The version that the kept listings describe; undefined where there are none. */
  get version(): Digest | undefined {
    const row = this.#statements.state.get('version') as { value: string } | undefined;
    return row !== undefined && isDigest(row.value) ? row.value : undefined;
  }

  /** The root directory's own facts, in a form of the caller's. */
  get root(): string | undefined {
    return (this.#statements.state.get('root') as { value: string } | undefined)?.value;
  }

  set root(value: string) {
    this.#statements.setState.run('root', value);
  }

  /** Everything until `commit` happens together or not at all. */
  begin(): void {
    this.#database.exec('begin immediate');
  }

  commit(version: Digest): void {
    this.#statements.setState.run('version', version);
    this.#database.exec('commit');
  }

  rollback(): void {
    if (this.#database.inTransaction) this.#database.exec('rollback');
  }

  clear(): void {
    this.#database.exec('DELETE FROM pieces; DELETE FROM state');
  }

  keep({ directory, first, until, listing }: Keep): void {
    const key = bufferOf(directory);
    const from = bufferOf(first);
    const { removeFrom, removeRange, put, digest } = this.#statements;
    const known = digest.get(key, from) as { digest: string } | undefined;
    if (until === undefined) removeFrom.run(key, from);
    else removeRange.run(key, from, bufferOf(until));
    put.run(key, from, known?.digest ?? '', listing);
  }

  listed(directory: ByteString, digest: string): void {
    this.#statements.setDigest.run(digest, bufferOf(directory));
  }

  /** Makes the entry at `path` differ from whatever the next import finds there. */
  distrust(path: ByteString): void {
    const directory = parentOf(path) ?? ('' as ByteString);
    const { piecesBefore, replace } = this.#statements;
    const key = bufferOf(directory);
    const name = nameOf(path);
    const row = piecesBefore.get(key, bufferOf(name)) as Row | undefined;
    const listing = row && decodeListing(row.listing);
    const index = listing ? namesOf(listing).indexOf(name) : -1;
    if (!row || !listing || index < 0) return;
    listing.words[listing.count * COLUMN.ctimeNanos + index] = NEVER;
    replace.run(encodeListing(listing), key, row.first);
  }

  /** Forgets a directory and all below it. */
  gone(directory: ByteString): void {
    const key = bufferOf(directory);
    this.#statements.removeDirectory.run(key);
    // '0' is the byte after '/'.
    this.#statements.removeBelow.run(bufferOf(`${directory}/` as ByteString), bufferOf(`${directory}0` as ByteString));
  }

  close(): void {
    this.rollback();
    this.#database.close();
  }
}

type Statements = ReturnType<typeof prepare>;

function prepare(database: Database) {
  return {
    state: database.prepare('select value from state where key = ?'),
    setState: database.prepare('insert or replace into state values (?, ?)'),
    digest: database.prepare('select digest from pieces where directory = ? and first = ?'),
    setDigest: database.prepare("update pieces set digest = ? where directory = ? and first = x''"),
    put: database.prepare('insert into pieces values (?, ?, ?, ?)'),
    piecesBefore: database.prepare(
      'select first, digest, listing from pieces where directory = ? and first <= ? order by first desc limit 1',
    ),
    replace: database.prepare('update pieces set listing = ? where directory = ? and first = ?'),
    removeFrom: database.prepare('delete from pieces where directory = ? and first >= ?'),
    removeRange: database.prepare('delete from pieces where directory = ? and first >= ? and first < ?'),
    removeDirectory: database.prepare('delete from pieces where directory = ?'),
    removeBelow: database.prepare('delete from pieces where directory >= ? and directory < ?'),
  };
}

interface Row {
  readonly first: Buffer;
  readonly digest: string;
  readonly listing: Buffer;
}

/** The reader's side, for a worker thread: sees what the last import committed, whatever is being written. */
export function openKeptListings(file: string): KeptListings {
  const database = openDatabaseReader({ file, schema });
  if (database === undefined) throw new StatCacheFault();
  // One state for the whole import, and no locks for each look-up.
  database.pragma(`mmap_size = ${1 << 28}`);
  database.exec('BEGIN');
  const two = database.prepare('select first, digest, listing from pieces where directory = ? order by first limit 2');
  const firsts = database.prepare('select first from pieces where directory = ? order by first').pluck();
  const range = database.prepare(`
    select first, digest, listing from pieces
    where directory = @directory and first < @until
      and first >= coalesce((select max(first) from pieces where directory = @directory and first <= @first), x'')
    order by first`);
  /** The pieces of the directory asked for last, if there is but one. */
  let single: { directory: ByteString; pieces: KeptPiece[] } | undefined;

  return {
    outline(directory) {
      const key = bufferOf(directory);
      const rows = two.all(key) as Row[];
      single = undefined;
      if (rows.length === 0) return undefined;
      if (rows.length === 1) {
        const pieces = rows.flatMap(pieceOf);
        // A damaged piece is as good as none; but what was in it must be found gone, so nothing of this cache may be used.
        if (pieces.length === 0) throw new StatCacheFault();
        single = { directory, pieces };
        return { digest: rows[0]!.digest, firsts: [pieces[0]!.first] };
      }
      return { digest: rows[0]!.digest, firsts: (firsts.all(key) as Buffer[]).map(fromBuffer) };
    },
    pieces(directory, first, until) {
      if (single?.directory === directory) return single.pieces;
      // Longer than any name: no name is behind it.
      const end = until === undefined ? Buffer.alloc(256, 0xff) : bufferOf(until);
      const rows = range.all({ directory: bufferOf(directory), first: bufferOf(first), until: end }) as Row[];
      const pieces = rows.flatMap(pieceOf);
      if (pieces.length !== rows.length) throw new StatCacheFault();
      return pieces;
    },
  };
}

/** The kept listings are damaged. */
export class StatCacheFault extends Error {
  constructor() {
    super('what the last import kept about the directory is damaged');
  }
}

function pieceOf({ first, listing }: Row): KeptPiece[] {
  const decoded = decodeListing(listing);
  return decoded === undefined ? [] : [{ first: fromBuffer(first), listing: decoded }];
}
