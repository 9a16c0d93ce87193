import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { flippedBits } from '../test/support/flip-bits.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { bucketAt } from './bucket/at.ts';
import type { Bucket } from './bucket/bucket.ts';
import { directoryBucket } from './bucket/directory.ts';
import { proveConditionalWrites } from './bucket/prove-conditions.ts';
import { sha256 } from './digest.ts';
import { CorruptError, InvalidError, NotFoundError } from './errors.ts';
import { decodeVersion, encodeVersion } from './format/version-json.ts';
import { initRepository, openRepository } from './repository.ts';
import { listVersions, readVersion, writeVersion } from './version.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-repository-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

const fields = {
  root: sha256('root'),
  parents: [sha256('p2'), sha256('p1')],
  author: 'Ada <ada@example.com>',
  time: '2025-01-31T12:00:00.000Z',
  message: 'größer\n',
  meta: { z: '1', a: 'ä' },
  entries: 3,
  bytes: 2 ** 45,
};

describeRepositories('a repository', (make) => {
  test('a repository is made once and keeps its id', async () => {
    const place = await make();
    await expect(openRepository(place)).rejects.toThrow('larder repository init --repository ');
    await expect(openRepository(place)).rejects.toThrow(NotFoundError);
    const made = await initRepository(place);
    const opened = await openRepository(place);
    const again = await initRepository(place);
    expect(opened).toMatchObject({ id: made.id, location: place });
    expect(again.id).toBe(made.id);
    expect((await collect(made.bucket.list(''))).map(({ key }) => key)).toEqual(['repository.json']);
    for (const each of [made, opened, again]) await each.bucket.close();
  });

  test('a repository that two make at once is one', async () => {
    const place = await make();
    const both = await Promise.all([initRepository(place), initRepository(place)]);
    expect(both[0].id).toBe(both[1].id);
    for (const each of both) await each.bucket.close();
  });

  test('a place that holds something else is refused, and named', async () => {
    const { bucket, location } = await bucketAt(await make());
    await bucket.put('thesis.tex', Buffer.from('x'));
    await expect(initRepository(location)).rejects.toThrow('it has thesis.tex; choose another place');
    expect((await collect(bucket.list(''))).map(({ key }) => key)).toEqual(['thesis.tex']);
    await bucket.close();
  });

  test('a damaged or newer repository.json says so', async () => {
    const { bucket, location } = await bucketAt(await make());
    for (const text of ['', '{', '[]\n', '{"format":1}\n']) {
      await bucket.put('repository.json', Buffer.from(text));
      await expect(openRepository(location)).rejects.toThrow(CorruptError);
    }
    await bucket.put('repository.json', Buffer.from('{"format":2,"id":"x"}\n'));
    await expect(openRepository(location)).rejects.toThrow('use a newer one');
    await bucket.close();
  });

  test('versions are stored once and read back, and one that is not there is named', async () => {
    const repository = await initRepository(await make());
    const version = await writeVersion(repository, fields);
    expect(await writeVersion(repository, fields)).toEqual(version);
    expect(await readVersion(repository, version.id)).toEqual(version);
    expect(await collect(listVersions(repository))).toEqual([version.id]);
    await expect(readVersion(repository, sha256('no'))).rejects.toThrow(
      `version ${sha256('no')} is not in the repository`,
    );
    await expect(writeVersion(repository, { ...fields, entries: 0.5 })).rejects.toThrow(InvalidError);
    await repository.bucket.close();
  });
});

test('a store of another kind is refused', async () => {
  await expect(openRepository('gs://bucket')).rejects.toThrow(InvalidError);
  await expect(openRepository('')).rejects.toThrow(InvalidError);
});

test('a store that ignores conditions is refused, with the reason', async () => {
  const plain = directoryBucket(directory);
  const careless: Bucket = {
    name: 'careless',
    get: (key, options) => plain.get(key, options),
    head: (key) => plain.head(key),
    put: (key, body) => plain.put(key, body),
    list: (prefix) => plain.list(prefix),
    delete: (key) => plain.delete(key),
    close: () => plain.close(),
  };
  await expect(proveConditionalWrites(careless)).rejects.toThrow(
    'of 2 racing writes that create one object, 2 succeeded',
  );
  const halfway: Bucket = {
    ...careless,
    put: (key, body, options) => plain.put(key, body, options?.condition === 'absent' ? { condition: 'absent' } : {}),
  };
  await expect(proveConditionalWrites(halfway)).rejects.toThrow('racing writes that replace one object, 2 succeeded');
  expect(await collect(plain.list(''))).toEqual([]);
  await plain.close();
});

test('a version is named by the digest of its canonical JSON', () => {
  const { version, object } = encodeVersion(fields);
  expect(object.toString()).toBe(
    `{"author":"Ada <ada@example.com>","bytes":35184372088832,"entries":3,"format":1,"message":"größer\\n","meta":{"a":"ä","z":"1"},` +
      `"parents":["${sha256('p2')}","${sha256('p1')}"],"root":"${sha256('root')}","time":"2025-01-31T12:00:00.000Z"}\n`,
  );
  expect(version.id).toBe(sha256(object));
  expect(decodeVersion(version.id, object)).toEqual(version);
});

test('a version that was changed, or is not in the one form, is refused', () => {
  const { version, object } = encodeVersion(fields);
  for (const { damaged } of flippedBits(createRandom(1), object, 1000))
    expect(() => decodeVersion(version.id, damaged)).toThrow(CorruptError);
  const refused = (change: (text: string) => string) => {
    const bytes = Buffer.from(change(object.toString()));
    return () => decodeVersion(sha256(bytes), bytes);
  };
  expect(refused((text) => text)).not.toThrow();
  expect(refused((text) => text.replace(',', ', '))).toThrow('canonical form');
  expect(refused((text) => text.trimEnd())).toThrow('canonical form');
  expect(refused((text) => text.replace('{"author"', '{"aim":"x","author"'))).toThrow('other fields');
  expect(refused((text) => text.replace('"entries":3', '"entries":-3'))).toThrow('no count');
  expect(refused((text) => text.replace('"format":1', '"format":7'))).toThrow('format 7');
  expect(refused((text) => text.replace('T12:00', 'T25:00'))).toThrow('its time is');
  expect(refused((text) => text.replace(sha256('p1'), sha256('p2')))).toThrow('a parent twice');
  expect(refused((text) => text.replace('"a":"ä"', '"a":1'))).toThrow('holds no texts');
});
