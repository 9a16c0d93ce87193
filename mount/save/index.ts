import { rmSync } from 'node:fs';
import type { ByteString } from '../../dataset/byte-string.ts';
import type { Digest } from '../../dataset/digest.ts';
import type { Content } from '../../dataset/entry.ts';
import { type Database, openDatabase, type Statement } from '../../system/database.ts';
import type { UpperFile } from '../upper-file.ts';
import { decodeContent, encodeContent } from './content.ts';
import { changeFacts, FACTS, type Facts, type FactsTable, factsOf } from './facts.ts';
import { indexFiles } from './index-files.ts';

export type NameKind = 'file' | 'directory' | 'whiteout' | 'other';

const KINDS: readonly NameKind[] = ['file', 'directory', 'whiteout', 'other'];

/** A name in a directory of the upper layer, as the last save saw it. */
export interface KnownName {
  /** 0 for a whiteout: all of them share one inode. */
  readonly inode: number;
  readonly kind: NameKind;
}

/** What the index is the memory of. */
export interface SaveState {
  /** The root of the version below the workspace. */
  readonly lower: Digest;
  /** The version that the upper layer made of it. */
  readonly version: Digest;
  /** The upper directory's inode. */
  readonly root: number;
  /** The end of XFS's log before the cut. Absent where something may have changed since without a trace in the log. */
  readonly logged?: string;
  /** Files that have several names. */
  readonly links: number;
}

const names = (prefix: string) =>
  `CREATE TABLE ${prefix}name (parent INTEGER, name TEXT, inode INTEGER, kind INTEGER, PRIMARY KEY (parent, name)) WITHOUT ROWID;`;
const inodes = (prefix: string) =>
  `CREATE TABLE ${prefix}inode (inode INTEGER PRIMARY KEY, facts BLOB, links INTEGER, base TEXT, content BLOB);`;

const SCHEMA = `
  CREATE TABLE state (one INTEGER PRIMARY KEY, json TEXT);
  ${names('')}
  CREATE INDEX name_inode ON name (inode);
  ${inodes('')}`;

/** What a save saw and the index has not taken over yet; of a save that goes wrong, nothing is left. */
const DRAFT = `
  DROP TABLE IF EXISTS temp.new_name; DROP TABLE IF EXISTS temp.new_inode;
  DROP TABLE IF EXISTS temp.lost; DROP TABLE IF EXISTS temp.emptied;
  ${names('temp.new_')} ${inodes('temp.new_')}
  CREATE TABLE temp.lost (parent INTEGER, name TEXT);
  CREATE TABLE temp.emptied (parent INTEGER);`;

type Row = readonly (number | string | Buffer | null)[];

/**
 * What the saves of one workspace know of its upper layer: each name, each inode's facts, and the contents of files. It may be deleted at any
 * time: then the next save reads all. One process has it open at a time.
 */
export class SaveIndex implements Disposable {
  readonly #file: string;
  #database: Database;
  #table: FactsTable | undefined;
  #draft: Draft | undefined;
  readonly #statements = new Map<string, Statement<(number | string)[], Row>>();

  constructor(file: string) {
    this.#file = file;
    this.#database = open(file);
  }

  /** Undefined in an index that has seen no save. */
  state(): SaveState | undefined {
    const row = this.#get('SELECT json FROM state');
    return row && (JSON.parse(row[0] as string) as SaveState);
  }

  /** Notes that nothing changed up to this end of the log. */
  setLogged(logged: string | undefined): void {
    this.#dropDraft();
    const state = this.state();
    if (state !== undefined) this.#setState({ ...state, logged });
  }

  /** The content of a file whose inode is as it was when it was read. */
  known(file: UpperFile): Content | undefined {
    const row = this.#get('SELECT facts, content FROM inode WHERE inode = ?', Number(file.status.ino));
    if (row === undefined || row[1] === null) return undefined;
    return bufferOfFacts(factsOf(file.status)).equals(row[0] as Buffer) ? decodeContent(row[1] as Buffer) : undefined;
  }

  /** Kept in memory once it was asked for: 32 bytes an inode. */
  facts(): FactsTable {
    if (this.#table !== undefined) return this.#table;
    const count = this.#get('SELECT count(*) FROM inode')![0] as number;
    const table = { inodes: new Float64Array(count), facts: new Uint32Array(count * FACTS) };
    let at = 0;
    for (const row of this.#rows('SELECT inode, facts FROM inode ORDER BY inode')) {
      table.inodes[at] = row[0] as number;
      table.facts.set(factsIn(row[1] as Buffer), at * FACTS);
      at += 1;
    }
    this.#table = table;
    return table;
  }

  namesIn(directory: number): Map<ByteString, KnownName> {
    const found = new Map<ByteString, KnownName>();
    for (const row of this.#rows('SELECT name, inode, kind FROM name WHERE parent = ?', directory))
      found.set(row[0] as ByteString, { inode: row[1] as number, kind: KINDS[row[2] as number]! });
    return found;
  }

  nameIn(directory: number, name: ByteString): KnownName | undefined {
    const row = this.#get('SELECT inode, kind FROM name WHERE parent = ? AND name = ?', directory, name);
    return row && { inode: row[0] as number, kind: KINDS[row[1] as number]! };
  }

  /** Under which names an inode is. */
  placesOf(inode: number): { readonly parent: number; readonly name: ByteString }[] {
    return this.#all('SELECT parent, name FROM name WHERE inode = ?', inode).map((row) => ({
      parent: row[0] as number,
      name: row[1] as ByteString,
    }));
  }

  /** The version's directory that shows through a directory of the upper layer; undefined where none does. */
  baseOf(directory: number): ByteString | undefined {
    return (this.#get('SELECT base FROM inode WHERE inode = ?', directory)?.[0] ?? undefined) as ByteString | undefined;
  }

  /** Whether it was a file of several names. */
  isLinked(inode: number): boolean {
    return ((this.#get('SELECT links FROM inode WHERE inode = ?', inode)?.[0] as number | undefined) ?? 0) > 1;
  }

  /** Begins to note what a save sees. One at a time: an earlier one that was not kept is dropped. */
  draft(): Draft {
    this.#dropDraft();
    this.#draft = new Draft(this.#database);
    // One transaction: the end of each costs time for every page that was changed.
    this.#database.exec('BEGIN');
    return this.#draft;
  }

  #dropDraft(): void {
    if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
    this.#draft = undefined;
    this.#database.exec(DRAFT);
  }

  /**
   * Takes over what a save saw: `all` that there is, or what changed. To be done once the version is saved for good: an index whose version is not
   * the last saved one is of little use. A draft that another one replaced changes nothing.
   */
  keep(draft: Draft, state: Omit<SaveState, 'links'>, all: boolean): void {
    if (draft !== this.#draft) return;
    this.#database.exec('COMMIT');
    const changes = new Map<number, Facts | undefined>();
    this.#database
      .transaction(() => {
        if (all) this.#replace();
        else this.#merge(changes);
        const links = this.#get('SELECT count(*) FROM inode WHERE links > 1')![0] as number;
        this.#setState({ ...state, links });
      })
      .immediate();
    this.#dropDraft();
    if (all) this.#table = undefined;
    else if (this.#table)
      this.#table = changeFacts(
        this.#table,
        [...changes].sort((a, b) => a[0] - b[0]),
      );
  }

  /** Forgets all: the next save reads all. */
  clear(): void {
    this.#database.close();
    this.#statements.clear();
    this.#draft = undefined;
    for (const each of indexFiles(this.#file)) rmSync(each, { force: true });
    this.#database = open(this.#file);
    this.#table = undefined;
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #replace(): void {
    this.#database.exec(`
      DELETE FROM name; DELETE FROM inode;
      INSERT INTO name SELECT * FROM temp.new_name; INSERT INTO inode SELECT * FROM temp.new_inode;`);
  }

  #merge(changes: Map<number, Facts | undefined>): void {
    const nameless: number[] = [];
    const removeIn = this.#database.prepare('DELETE FROM name WHERE parent = ?');
    const empty = (parent: number) => {
      for (const row of this.#all('SELECT inode FROM name WHERE parent = ?', parent)) nameless.push(row[0] as number);
      removeIn.run(parent);
    };
    for (const row of this.#all('SELECT parent FROM temp.emptied')) empty(row[0] as number);
    for (const from of ['temp.lost', 'temp.new_name']) {
      const sql = `SELECT name.inode FROM name JOIN ${from} AS other ON name.parent = other.parent AND name.name = other.name`;
      for (const row of this.#all(sql)) nameless.push(row[0] as number);
    }
    this.#database.exec(`
      DELETE FROM name WHERE (parent, name) IN (SELECT parent, name FROM temp.lost);
      INSERT OR REPLACE INTO name SELECT * FROM temp.new_name;
      INSERT OR REPLACE INTO inode SELECT * FROM temp.new_inode;`);
    for (const row of this.#rows('SELECT inode, facts FROM temp.new_inode'))
      changes.set(row[0] as number, factsIn(row[1] as Buffer));
    const isNamed = this.#database.prepare('SELECT 1 FROM name WHERE inode = ?').raw();
    const remove = this.#database.prepare('DELETE FROM inode WHERE inode = ?');
    // Grows while it is gone through: what was below a directory that is gone.
    for (let inode = nameless.pop(); inode !== undefined; inode = nameless.pop()) {
      if (inode === 0 || isNamed.get(inode) !== undefined) continue;
      if (remove.run(inode).changes === 0) continue;
      changes.set(inode, undefined);
      empty(inode);
    }
  }

  #setState(state: SaveState): void {
    this.#database.prepare('INSERT OR REPLACE INTO state VALUES (1, ?)').run(JSON.stringify(state));
  }

  #prepared(sql: string) {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare<(number | string)[], Row>(sql).raw();
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #get(sql: string, ...values: (number | string)[]): Row | undefined {
    return this.#prepared(sql).get(...values);
  }

  #all(sql: string, ...values: (number | string)[]): Row[] {
    return this.#prepared(sql).all(...values);
  }

  #rows(sql: string, ...values: (number | string)[]): IterableIterator<Row> {
    return this.#prepared(sql).iterate(...values);
  }
}

/** What one save sees, in tables of its own. */
export class Draft {
  readonly #name;
  readonly #inode;
  readonly #lost;
  readonly #emptied;

  constructor(database: Database) {
    this.#name = database.prepare('INSERT OR REPLACE INTO temp.new_name VALUES (?, ?, ?, ?)');
    this.#inode = database.prepare('INSERT OR REPLACE INTO temp.new_inode VALUES (?, ?, ?, ?, ?)');
    this.#lost = database.prepare('INSERT INTO temp.lost VALUES (?, ?)');
    this.#emptied = database.prepare('INSERT INTO temp.emptied VALUES (?)');
  }

  name(parent: number, name: ByteString, inode: number, kind: NameKind): void {
    this.#name.run(parent, name, kind === 'whiteout' ? 0 : inode, KINDS.indexOf(kind));
  }

  inode(
    inode: number,
    about: {
      readonly facts: Facts;
      readonly links: number;
      readonly base?: ByteString;
      readonly content?: Content;
    },
  ): void {
    const content = about.content && encodeContent(about.content);
    this.#inode.run(inode, bufferOfFacts(about.facts), about.links, about.base ?? null, content ?? null);
  }

  /** A name that is no more. */
  lost(parent: number, name: ByteString): void {
    this.#lost.run(parent, name);
  }

  /** All names of this directory that are noted in this draft are all that it has. */
  whole(parent: number): void {
    this.#emptied.run(parent);
  }
}

/** Opens the index of a workspace's saves, or makes an empty one. */
export function openSaveIndex(file: string): SaveIndex {
  return new SaveIndex(file);
}

function open(file: string): Database {
  const { database } = openDatabase({ file, schema: SCHEMA, cacheKib: 2048 });
  return database;
}

function bufferOfFacts(facts: Facts): Buffer {
  return Buffer.from(facts.buffer, facts.byteOffset, facts.byteLength);
}

function factsIn(bytes: Buffer): Facts {
  const facts = new Uint32Array(FACTS);
  Buffer.from(facts.buffer).set(bytes);
  return facts;
}
