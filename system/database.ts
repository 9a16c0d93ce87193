import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import type Sqlite from 'better-sqlite3';

export type Database = Sqlite.Database;
export type { RunResult, Statement, Transaction } from 'better-sqlite3';

export interface DatabaseOptions {
  readonly file: string;
  /** `CREATE TABLE …; CREATE INDEX …;` of an empty database. */
  readonly schema: string;
  /** The page cache's limit in KiB; 8 MiB if not said. */
  readonly cacheKib?: number;
}

/** Loaded with the first database that is opened. */
let library: typeof Sqlite | undefined;

function sqlite(): typeof Sqlite {
  library ??= createRequire(import.meta.url)('better-sqlite3') as typeof Sqlite;
  return library;
}

/** How long a statement waits for another process's transaction, in milliseconds. */
const BUSY_TIMEOUT = 30_000;

/** The log grows to so many pages, 32 MiB, before they are moved to the file: a page that many transactions change is moved once. */
const CHECKPOINT_PAGES = 8192;

/**
 * Opens a database whose contents can be made anew: what it holds for another schema is dropped, and a file that SQLite finds
 * damaged is removed. Several processes and threads may have it open. A crash loses at most the last transactions.
 * @returns the database; `isNew` tells that it is empty and has to be filled
 */
export function openDatabase(options: DatabaseOptions): { readonly database: Database; readonly isNew: boolean } {
  mkdirSync(dirname(options.file), { recursive: true });
  try {
    return prepare(options);
  } catch (error) {
    if (!isDamage(error)) throw error;
    for (const suffix of ['', '-wal', '-shm']) rmSync(options.file + suffix, { force: true });
    return prepare(options);
  }
}

/** Opens what `openDatabase` made, for reading only, in this thread or another; undefined where it is not there or of another schema. */
export function openDatabaseReader(options: DatabaseOptions): Database | undefined {
  if (!existsSync(options.file)) return undefined;
  const database = new (sqlite())(options.file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT });
  database.pragma(`cache_size = -${options.cacheKib ?? 8192}`);
  if (database.pragma('user_version', { simple: true }) === versionOf(options.schema)) return database;
  database.close();
  return undefined;
}

/** Whether SQLite says that the file is no database or a broken one. */
export function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB)/.test(codeOf(error));
}

/** Whether SQLite says that the disk has no room for what it writes, or did not take it: what was written before is as it was. */
export function isRefusedByDisk(error: unknown): boolean {
  return /^SQLITE_(FULL|IOERR)/.test(codeOf(error));
}

/** SQLite's name for an error; empty of one that is not SQLite's. */
function codeOf(error: unknown): string {
  return library !== undefined && error instanceof library.SqliteError ? error.code : '';
}

function prepare({ file, schema, cacheKib = 8192 }: DatabaseOptions) {
  const database = new (sqlite())(file, { timeout: BUSY_TIMEOUT });
  try {
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    database.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    database.pragma(`cache_size = -${cacheKib}`);
    const version = versionOf(schema);
    const isCurrent = () => database.pragma('user_version', { simple: true }) === version;
    if (isCurrent()) return { database, isNew: false };
    const isNew = database
      .transaction(() => {
        // Another process may have done it while this one waited.
        if (isCurrent()) return false;
        dropAll(database);
        database.exec(schema);
        database.pragma(`user_version = ${version}`);
        return true;
      })
      .exclusive();
    return { database, isNew };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Another schema is another version. */
function versionOf(schema: string): number {
  return crc32(schema) & 0x7fff_ffff;
}

function dropAll(database: Database): void {
  const names = database
    .prepare<[], { name: string }>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all();
  for (const { name } of names) database.exec(`DROP TABLE "${name.replaceAll('"', '""')}"`);
}
