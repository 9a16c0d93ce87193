import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isDamage, openDatabase, openDatabaseReader } from './database.ts';

const schema =
  'CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID; CREATE INDEX lengths ON words (length(word));';
let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-database-'));
  file = join(directory, 'a', 'b', 'words.db');
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('a database keeps what was written, and says when it is new', () => {
  const first = openDatabase({ file, schema });
  expect(first.isNew).toBe(true);
  first.database.exec("INSERT INTO words VALUES ('one')");
  const second = openDatabase({ file, schema });
  expect(second.isNew).toBe(false);
  const reader = openDatabaseReader({ file, schema })!;
  for (const database of [second.database, reader])
    expect(database.prepare('SELECT word FROM words').pluck().all()).toEqual(['one']);
  expect(() => reader.exec("INSERT INTO words VALUES ('two')")).toThrow('readonly');
  for (const database of [first.database, second.database, reader]) database.close();
});

test('a database of another schema is emptied and made new', () => {
  const old = openDatabase({ file, schema });
  old.database.exec("INSERT INTO words VALUES ('one')");
  old.database.close();
  const other = 'CREATE TABLE words (word TEXT, times INTEGER)';
  expect(openDatabaseReader({ file, schema: other })).toBeUndefined();
  const { database, isNew } = openDatabase({ file, schema: other });
  expect(isNew).toBe(true);
  expect(database.prepare('SELECT count(*) FROM words').pluck().get()).toBe(0);
  database.exec("INSERT INTO words VALUES ('one', 2)");
  database.close();
});

test('a file that is damaged is replaced', async () => {
  openDatabase({ file, schema }).database.close();
  await writeFile(file, 'no database, but long enough that its first sixteen bytes are looked at: '.repeat(20));
  const { database, isNew } = openDatabase({ file, schema });
  expect(isNew).toBe(true);
  database.exec("INSERT INTO words VALUES ('one')");
  database.close();
});

test('damage is told from other errors', async () => {
  const { database } = openDatabase({ file, schema });
  try {
    database.exec('SELECT nothing FROM nowhere');
    expect.unreachable();
  } catch (error) {
    expect(isDamage(error)).toBe(false);
  }
  database.close();
});
