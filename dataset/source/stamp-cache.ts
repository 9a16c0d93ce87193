import { join } from 'node:path';
import { type Database, openDatabase } from '../../system/database.ts';
import { type ByteString, bufferOf } from '../byte-string.ts';
import { type Digest, isDigest, sha256 } from '../digest.ts';
import { stateDirectory } from '../state-directory.ts';

/*
 * What the last import from one place to one branch found there: the version it made, and for each path a stamp of what it was made of (an
 * object's ETag), so that the next import need not read it again. It may be deleted: the next import then reads everything.
 */
const schema = `
  CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE stamps (path BLOB PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
`;

export interface StampCacheKey {
  /** Where the files come from, and how they are taken. */
  readonly source: string;
  readonly dataset: string;
  readonly branch: string;
}

export function stampCacheFile(repositoryId: string, { source, dataset, branch }: StampCacheKey): string {
  const name = sha256(JSON.stringify(['stamps', source, dataset, branch])).slice(0, 32);
  return join(stateDirectory(), 'repositories', repositoryId, 'imports', `${name}.db`);
}

/** One import at a time has it open. Everything until `commit` happens together or not at all. */
export class StampCache implements Disposable {
  readonly #database: Database;
  readonly #statements;

  constructor(file: string) {
    const database = openDatabase({ file, schema }).database;
    this.#database = database;
    this.#statements = {
      version: database.prepare("select value from state where key = 'version'").pluck(),
      setVersion: database.prepare("insert or replace into state values ('version', ?)"),
      get: database.prepare('select stamp from stamps where path = ?').pluck(),
      put: database.prepare('insert or replace into stamps values (?, ?)'),
      remove: database.prepare('delete from stamps where path = ?'),
      // '0' is the byte after '/'.
      removeBelow: database.prepare('delete from stamps where path >= ? and path < ?'),
    };
    database.exec('begin immediate');
  }

  /** The version that the stamps are of; undefined where there are none. */
  get version(): Digest | undefined {
    const value = this.#statements.version.get();
    return typeof value === 'string' && isDigest(value) ? value : undefined;
  }

  clear(): void {
    this.#database.exec('DELETE FROM stamps; DELETE FROM state');
  }

  get(path: ByteString): string | undefined {
    return this.#statements.get.get(bufferOf(path)) as string | undefined;
  }

  set(path: ByteString, stamp: string): void {
    this.#statements.put.run(bufferOf(path), stamp);
  }

  /** Forgets a path and all below it. */
  remove(path: ByteString): void {
    this.#statements.remove.run(bufferOf(path));
    this.#statements.removeBelow.run(bufferOf(`${path}/` as ByteString), bufferOf(`${path}0` as ByteString));
  }

  commit(version: Digest): void {
    this.#statements.setVersion.run(version);
    this.#database.exec('commit');
  }

  [Symbol.dispose](): void {
    if (this.#database.inTransaction) this.#database.exec('rollback');
    this.#database.close();
  }
}
