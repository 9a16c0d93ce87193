import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import { type Digest, digestFromBytes, digestToBytes, isDigest } from '../dataset/digest.ts';
import { isDiskFull, isErrno } from '../dataset/errors.ts';
import { type Database, isRefusedByDisk, openDatabase, type Statement } from '../system/database.ts';
import type { Cache } from './cache.ts';
import { fans } from './layout.ts';

/** What is known of an object without looking at it. */
export interface IndexedObject {
  readonly id: Digest;
  /** In bytes. */
  readonly size: number;
  /** When it came, and when its bytes were last checked after that, in milliseconds since 1970. */
  readonly added: number;
  readonly verified?: number;
}

/**
 * Numbers about the objects of a cache, in SQLite. The directory is the truth: whether an object is there is never asked here, and
 * the file may be deleted at any time. A new index, or one that was not closed, is made right in the background.
 */
export interface CacheIndex extends AsyncDisposable {
  /** Resolves when the index agrees with the directory. */
  readonly settled: Promise<void>;
  totals(): IndexTotals;
  get(id: Digest): IndexedObject | undefined;
  /** Those whose ids begin with these hexadecimal digits, of which there are an even number. */
  startingWith(prefix: string): readonly IndexedObject[];
  /** All objects in order of their ids, a batch at a time; those behind `after` where that is given. */
  batches(options?: { readonly after?: Digest; readonly size?: number }): AsyncGenerator<readonly IndexedObject[]>;
  markVerified(id: Digest, at?: number): void;
  /** The next objects in order of their last check, those that were never checked by when they came. */
  byLastCheck(options: { readonly after?: IndexedObject; readonly limit: number }): readonly IndexedObject[];
  close(): Promise<void>;
}

export interface IndexTotals {
  readonly objects: number;
  /** Their sizes together. */
  readonly bytes: number;
  /** What they take on a disk: whole blocks. */
  readonly held: number;
}

/** Of most file systems, in bytes. */
const BLOCK = 4096;

/** What an object of this size takes on a disk, in bytes. */
export function heldBytes(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

const held = (row: string) => `(${row}.size + ${BLOCK - 1}) / ${BLOCK} * ${BLOCK}`;

// The totals are asked for all the time, and a sum over all rows takes a tenth of a second for a million of them.
const SCHEMA = `
  CREATE TABLE objects (id BLOB PRIMARY KEY, size INTEGER NOT NULL, added INTEGER NOT NULL, verified INTEGER) WITHOUT ROWID;
  CREATE INDEX checks ON objects (coalesce(verified, added), id);
  CREATE TABLE totals (objects INTEGER NOT NULL, bytes INTEGER NOT NULL, held INTEGER NOT NULL);
  INSERT INTO totals VALUES (0, 0, 0);
  CREATE TRIGGER came AFTER INSERT ON objects BEGIN
    UPDATE totals SET objects = objects + 1, bytes = bytes + NEW.size, held = held + ${held('NEW')};
  END;
  CREATE TRIGGER changed AFTER UPDATE OF size ON objects WHEN OLD.size <> NEW.size BEGIN
    UPDATE totals SET bytes = bytes + NEW.size - OLD.size, held = held + ${held('NEW')} - ${held('OLD')};
  END;
  CREATE TRIGGER went AFTER DELETE ON objects BEGIN
    UPDATE totals SET objects = objects - 1, bytes = bytes - OLD.size, held = held - ${held('OLD')};
  END;
`;

/** How long changes are gathered before they are written, in milliseconds; how many at most. */
const GATHER = 1_000;
const GATHER_MOST = 2_000;

/** After how many milliseconds a write that the disk refused is tried again; how many changes are kept for it. */
const TRY_AGAIN = 5_000;
const KEEP_MOST = 200_000;

/** Rows read at once: the event loop waits so long. */
const BATCH = 4_000;

/** Files that are looked at at once while the index is made anew. */
const STATS_AT_ONCE = 64;

interface Row {
  readonly id: Buffer;
  readonly size: number;
  readonly added: number;
  readonly verified: number | null;
}

export interface OpenIndexOptions {
  /** The database is not opened, and the directory not read, before this resolves or somebody asks the index. */
  readonly after?: Promise<unknown>;
}

/** Follows a cache from now on. Close it before the cache. */
export function openIndex(cache: Cache, { after: mayOpen }: OpenIndexOptions = {}): CacheIndex {
  const { layout } = cache;
  const closedMark = `${layout.index}.closed`;
  const wasClosed = existsSync(closedMark);
  // What comes from now on may not be written down.
  rmSync(closedMark, { force: true });
  let tables: Tables | undefined;

  /** What came (its size) or went (undefined) since the last write. */
  let changes = new Map<Digest, number | undefined>();
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  /** The index agrees with the directory. */
  let complete = false;
  /** Changes were given up: the index is made right when the disk takes it. */
  let behind = false;
  const settling = Promise.withResolvers<void>();
  // Whoever waits for it meets the failure; nobody has to.
  settling.promise.catch(() => {});

  const open = (): Tables => {
    if (tables) return tables;
    const { database, isNew } = openOrStandIn(layout.index);
    tables = prepareTables(database);
    complete = !isNew && wasClosed;
    if (complete) settling.resolve();
    else {
      const done = () => {
        complete = !closed;
        settling.resolve();
      };
      reconcile().then(done, settling.reject);
    }
    return tables;
  };
  const flush = (): Tables => {
    clearTimeout(timer);
    timer = undefined;
    const at = open();
    if (changes.size === 0) return at;
    const news = changes;
    changes = new Map();
    try {
      at.write(news);
    } catch (error) {
      if (!isRefusedByDisk(error)) throw error;
      keep(news);
      return at;
    }
    if (behind) mend();
    return at;
  };
  /** A full disk does not end the daemon: what could not be written is written later. */
  const keep = (news: Map<Digest, number | undefined>) => {
    for (const [id, size] of changes) news.set(id, size);
    changes = news;
    if (changes.size > KEEP_MOST) {
      changes = new Map();
      behind = true;
      complete = false;
    }
    if (!closed) timer = setTimeout(flush, TRY_AGAIN).unref();
  };
  const mend = () => {
    behind = false;
    reconcile().then(
      () => {
        complete = !closed && !behind;
      },
      () => {
        behind = true;
      },
    );
  };
  const note = (id: Digest, size: number | undefined) => {
    if (closed) return;
    changes.set(id, size);
    if (changes.size % GATHER_MOST === 0) flush();
    else timer ??= setTimeout(flush, GATHER).unref();
  };
  cache.onPlaced((placed) => {
    for (const { id, size } of placed) note(id, size);
  });
  cache.onRemoved((id) => note(id, undefined));

  const look = async (id: Digest) => {
    try {
      const { size } = await stat(cache.objectPath(id));
      if (!changes.has(id)) note(id, size);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  };

  /** One folder of objects/ at a time: what the directory has and the index has not, and the other way round. */
  const reconcile = async () => {
    for (const fan of fans()) {
      const names = await readdir(`${layout.objects}/${fan}`);
      if (closed) return;
      flush();
      const indexed = new Set(
        open()
          .inFan.all(...rangeOf(fan))
          .map(({ id }) => digestFromBytes(id)),
      );
      const missing = names.filter(isDigest).filter((id) => !indexed.delete(id));
      for (let at = 0; at < missing.length && !closed; at += STATS_AT_ONCE) {
        await Promise.all(missing.slice(at, at + STATS_AT_ONCE).map(look));
      }
      if (closed) return;
      // What is left was not there when the folder was listed; what came since is there now.
      for (const id of indexed) if (!cache.has(id)) note(id, undefined);
      await breathe();
    }
    flush();
  };
  if (mayOpen === undefined) open();
  else
    mayOpen
      .then(() => {
        if (!closed) open();
      })
      .catch(settling.reject);

  const index: CacheIndex = {
    settled: settling.promise,
    totals: () => flush().sums.get()!,
    get: (id) => {
      const row = flush().one.get(digestToBytes(id));
      return row && objectOf(row);
    },
    startingWith: (prefix) =>
      flush()
        .between.all(...rangeOf(prefix))
        .map(objectOf),
    async *batches({ after: start, size = BATCH } = {}) {
      for (let last: Buffer = start ? digestToBytes(start) : Buffer.alloc(0); ; ) {
        const rows = flush().after.all(last, size);
        if (rows.length === 0) return;
        yield rows.map(objectOf);
        last = rows.at(-1)!.id;
        await breathe();
      }
    },
    markVerified: (id, at = Date.now()) => {
      try {
        flush().mark.run(at, digestToBytes(id));
      } catch (error) {
        // It will be checked again sooner than it need be.
        if (!isRefusedByDisk(error)) throw error;
      }
    },
    byLastCheck: ({ after: last, limit }) => {
      const from = last
        ? [last.verified ?? last.added, digestToBytes(last.id)]
        : [Number.MIN_SAFE_INTEGER, Buffer.alloc(0)];
      return flush()
        .checks.all(from[0] as number, from[1] as Buffer, limit)
        .map(objectOf);
    },
    close: async () => {
      if (closed) return;
      // Nobody asked, and nothing came: it is as it was found.
      if (!tables && changes.size === 0) complete = wasClosed;
      else flush();
      closed = true;
      if (tables) await settling.promise.catch(() => {});
      const inOrder = complete && changes.size === 0;
      tables?.database.close();
      if (inOrder) markClosed(closedMark);
    },
    [Symbol.asyncDispose]: () => index.close(),
  };
  return index;
}

/** Behind the database, which is on the disk then. */
function markClosed(file: string): void {
  try {
    writeFileSync(file, '');
  } catch (error) {
    // It will be compared with the directory, which it need not be.
    if (!isDiskFull(error)) throw error;
  }
}

interface Tables {
  readonly database: Database;
  write(news: ReadonlyMap<Digest, number | undefined>): void;
  readonly mark: Statement<[number, Buffer]>;
  readonly one: Statement<[Buffer], Row>;
  readonly sums: Statement<[], IndexTotals>;
  readonly after: Statement<[Buffer, number], Row>;
  readonly between: Statement<[Buffer, Buffer], Row>;
  readonly checks: Statement<[number, Buffer, number], Row>;
  readonly inFan: Statement<[Buffer, Buffer], { id: Buffer }>;
}

function prepareTables(database: Database): Tables {
  const insert = database.prepare(
    'INSERT INTO objects (id, size, added) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET size = excluded.size',
  );
  const drop = database.prepare('DELETE FROM objects WHERE id = ?');
  return {
    database,
    write: database.transaction((news: ReadonlyMap<Digest, number | undefined>) => {
      const now = Date.now();
      for (const [id, size] of news) {
        if (size === undefined) drop.run(digestToBytes(id));
        else insert.run(digestToBytes(id), size, now);
      }
    }),
    mark: database.prepare('UPDATE objects SET verified = ? WHERE id = ?'),
    one: database.prepare('SELECT * FROM objects WHERE id = ?'),
    sums: database.prepare('SELECT objects, bytes, held FROM totals'),
    after: database.prepare('SELECT * FROM objects WHERE id > ? ORDER BY id LIMIT ?'),
    between: database.prepare('SELECT * FROM objects WHERE id >= ? AND id <= ?'),
    checks: database.prepare(
      'SELECT * FROM objects WHERE (coalesce(verified, added), id) > (?, ?) ORDER BY coalesce(verified, added), id LIMIT ?',
    ),
    inFan: database.prepare('SELECT id FROM objects WHERE id >= ? AND id <= ?'),
  };
}

/** The index's file, or one in memory for as long as the disk takes nothing. */
function openOrStandIn(file: string) {
  try {
    return openDatabase({ file, schema: SCHEMA });
  } catch (error) {
    if (!isRefusedByDisk(error)) throw error;
    // It would not know what comes and goes from now on.
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    return openDatabase({ file: ':memory:', schema: SCHEMA });
  }
}

/** The first and the last id with this prefix. */
function rangeOf(prefix: string): [Buffer, Buffer] {
  return [Buffer.from(prefix.padEnd(64, '0'), 'hex'), Buffer.from(prefix.padEnd(64, 'f'), 'hex')];
}

function objectOf({ id, size, added, verified }: Row): IndexedObject {
  return { id: digestFromBytes(id), size, added, ...(verified !== null && { verified }) };
}
