import { expect, test } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { CorruptError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

const edges = [
  0,
  1,
  127,
  128,
  16_383,
  16_384,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 49 - 1,
  2 ** 49,
  Number.MAX_SAFE_INTEGER,
];

test('numbers of every size come back as they were written', () => {
  const random = createRandom(1);
  const values = [...edges, ...Array.from({ length: 5000 }, () => random.below(2 ** random.below(54)))];
  const signed = [...values.filter((value) => value < 2 ** 52)].flatMap((value) => [value, -value - 1]);
  const out = new ByteWriter(1);
  for (const value of values) out.varint(value);
  for (const value of signed) out.signed(value);
  const reader = new ByteReader('it', out.view());
  for (const value of values) expect(reader.varint()).toBe(value);
  for (const value of signed) expect(reader.signed()).toBe(value);
  reader.finish();
});

test('a number that cannot be is not written', () => {
  const out = new ByteWriter();
  for (const value of [-1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY])
    expect(() => out.varint(value)).toThrow(RangeError);
});

test('a number has one form: a longer one, a larger one and a cut one are refused', () => {
  const bad = [
    '8000',
    'ff00',
    '808000',
    '80',
    'ffffffffffffff',
    'ffffffffffffff10',
    'ffffffffffffffffff01',
    'ffffffffffffff7f',
  ];
  for (const hex of bad)
    expect(() => new ByteReader('it', Buffer.from(hex, 'hex')).varint(), hex).toThrow(CorruptError);
  expect(new ByteReader('it', Buffer.from('ffffffffffffff0f', 'hex')).varint()).toBe(Number.MAX_SAFE_INTEGER);
});

test('nothing is read beyond the end, and the message names object and place', () => {
  const reader = new ByteReader('segment abc', Buffer.from('0102', 'hex'), 0, 1);
  expect(reader.u8()).toBe(1);
  for (const read of [
    () => reader.u8(),
    () => reader.u32(),
    () => reader.varint(),
    () => reader.digest(),
    () => reader.bytes(1),
  ])
    expect(read).toThrow('segment abc is damaged: it ends too early (at byte 1)');
});

test('a count that its items cannot fit is refused before anything is allocated', () => {
  const out = new ByteWriter();
  out.varint(2 ** 40);
  out.bytes(Buffer.alloc(100));
  expect(() => new ByteReader('it', out.view()).count(1)).toThrow('tells of 1099511627776 items in 100 bytes');
});
