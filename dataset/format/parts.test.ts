import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { flippedBits } from '../../test/support/flip-bits.ts';
import { createRandom } from '../../test/support/random.ts';
import { sha256 } from '../digest.ts';
import type { Part } from '../entry.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { formatParts, partsId, readParts, writeParts } from './parts.ts';
import { readSource, sourceContent, writeSource } from './source.ts';

const parts: Part[] = [{ length: 300, chunk: sha256('a') }, { length: 2 ** 40 }, { length: 1, chunk: sha256('b') }];

test('the content id of several parts is the documented digest of their list', () => {
  const list = Buffer.concat([
    Buffer.from([3, 0xac, 0x02, 1]),
    Buffer.from(sha256('a'), 'hex'),
    Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0]),
    Buffer.from([1, 1]),
    Buffer.from(sha256('b'), 'hex'),
  ]);
  expect(partsId(parts)).toBe(createHash('sha512-256').update('parts 1\n').update(list).digest('hex'));
  expect(readParts(new ByteReader('it', list))).toEqual({ id: partsId(parts), parts });
  expect(formatParts(parts)).toBe(`${sha256('a')} 300\nhole ${2 ** 40}\n${sha256('b')} 1\n`);
});

test('no file of one chunk can have the content id of a part list', () => {
  const out = new ByteWriter();
  writeParts(out, parts);
  expect(sha256(out.view())).not.toBe(partsId(parts));
  expect(sha256(Buffer.concat([Buffer.from('parts 1\n'), out.view()]))).not.toBe(partsId(parts));
});

test('a part list has one form', () => {
  const bad: Part[][] = [
    [],
    [{ length: 5, chunk: sha256('a') }],
    [{ length: 5 }, { length: 5 }],
    [{ length: 0 }],
    [{ length: 1, chunk: sha256('a') }, { length: 0 }],
    [{ length: Number.MAX_SAFE_INTEGER }, { length: 1, chunk: sha256('a') }],
  ];
  for (const list of bad) expect(() => partsId(list)).toThrow(InvalidError);
});

test('a flipped bit makes another list or none', () => {
  const out = new ByteWriter();
  writeParts(out, parts);
  for (const { damaged } of flippedBits(createRandom(1), Buffer.from(out.view()))) {
    try {
      const reader = new ByteReader('it', damaged);
      const { id } = readParts(reader);
      reader.finish();
      expect(id).not.toBe(partsId(parts));
    } catch (error) {
      expect(error).toBeInstanceOf(CorruptError);
    }
  }
});

test('a source comes back with the content id that its reference makes', () => {
  const references = [
    { bucket: 'b', key: 'käse/1', etag: '"1"', version: 'v' },
    { bucket: 'b', key: 'käse/1', etag: '"1"' },
    { bucket: 'b', key: 'käse/', etag: '1"1"' },
  ];
  const ids = new Set<string>();
  for (const reference of references) {
    const out = new ByteWriter();
    writeSource(out, reference);
    const content = readSource(new ByteReader('it', out.view()));
    expect(content).toEqual(sourceContent(reference));
    expect(content).toMatchObject(reference);
    ids.add(content.id);
  }
  expect(ids.size).toBe(3);
  expect(() => readSource(new ByteReader('it', Buffer.from('0161016b0000', 'hex')))).toThrow('lacks its bucket');
  expect(() => readSource(new ByteReader('it', Buffer.from('01ff016b016500', 'hex')))).toThrow('not UTF-8');
});
