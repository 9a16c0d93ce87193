import { expect, test } from 'vitest';
import { beginnings, flippedBits } from '../../test/support/flip-bits.ts';
import { createRandom } from '../../test/support/random.ts';
import { sha256 } from '../digest.ts';
import { CorruptError } from '../errors.ts';
import { type ChunkLocation, decodeLocations, encodeLocations, formatLocations } from './locations.ts';

const segment = sha256('segment');

function randomLocations(seed: number, count: number): ChunkLocation[] {
  const random = createRandom(seed);
  const packs = [sha256('p1'), sha256('p2'), sha256('p3')];
  return Array.from({ length: count }, (_, i) => {
    const length = 2 + random.below(5_000_000);
    const zstd = random.oneIn(2);
    const stored = zstd ? 1 + random.below(length - 1) : length;
    const offset = 100 + random.below(40_000_000);
    return {
      id: sha256(`${seed} ${i}`),
      pack: random.pick(packs),
      offset,
      stored,
      length,
      codec: zstd ? 'zstd' : 'raw',
    };
  });
}

test('locations come back for the chunks of their segment', () => {
  for (const count of [0, 1, 2, 700]) {
    const locations = randomLocations(count, count);
    expect(decodeLocations(segment, encodeLocations(segment, locations), locations)).toEqual(locations);
  }
});

test('chunks that follow one another in a pack cost a few bytes each', () => {
  const pack = sha256('p');
  const locations: ChunkLocation[] = [];
  for (let i = 0, offset = 50; i < 1000; i++, offset += 110_000)
    locations.push({ id: sha256(`${i}`), pack, offset, stored: 110_000, length: 110_000, codec: 'raw' });
  expect(encodeLocations(segment, locations).length).toBeLessThan(6 * 1000);
});

test('locations have the layout that the documentation gives', () => {
  const pack = sha256('p');
  const locations: ChunkLocation[] = [
    { id: sha256('a'), pack, offset: 91, stored: 5, length: 5, codec: 'raw' },
    { id: sha256('b'), pack, offset: 96, stored: 3, length: 9, codec: 'zstd' },
    { id: sha256('c'), pack, offset: 91, stored: 5, length: 6, codec: 'zstd' },
  ];
  const body = ['4c4c4f4301', segment, '01', pack, '03', '00b6010a', '000007', '000f0b'].join('');
  expect(encodeLocations(segment, locations).toString('hex')).toBe(body + sha256(Buffer.from(body, 'hex')));
  expect(formatLocations(locations.slice(0, 1))).toBe(`${sha256('a')} ${pack} 91 5 5 raw\n`);
});

test('every flipped bit, every cut and every byte more is refused, with the name of the object', () => {
  const random = createRandom(1);
  const locations = randomLocations(1, 30);
  const object = encodeLocations(segment, locations);
  for (const { damaged, at } of flippedBits(random, object))
    expect(() => decodeLocations(segment, damaged, locations), at).toThrow(CorruptError);
  for (const part of beginnings(random, object))
    expect(() => decodeLocations(segment, part, locations)).toThrow(CorruptError);
  expect(() => decodeLocations(segment, Buffer.concat([object, Buffer.from([0])]), locations)).toThrow(
    `locations of segment ${segment} is damaged`,
  );
});

test('the locations of another segment, or of other chunks, are refused', () => {
  const locations = randomLocations(2, 10);
  const object = encodeLocations(segment, locations);
  expect(() => decodeLocations(sha256('other'), object, locations)).toThrow(`those of segment ${segment}`);
  expect(() => decodeLocations(segment, object, locations.slice(1))).toThrow('10 chunks, and the segment has 9');
  const others = locations.map(({ id }) => ({ id, length: 1 }));
  expect(() => decodeLocations(segment, object, others)).toThrow('is stored in');
});

test('a checksum made anew does not make impossible places possible', () => {
  const refused = (rows: string, packs = `01${sha256('p')}`, chunks = 1) => {
    const body = Buffer.from(`4c4c4f4301${segment}${packs}${chunks.toString(16).padStart(2, '0')}${rows}`, 'hex');
    const object = Buffer.concat([body, Buffer.from(sha256(body), 'hex')]);
    const list = Array.from({ length: chunks }, (_, i) => ({ id: sha256(`${i}`), length: 5 }));
    return () => decodeLocations(segment, object, list);
  };
  expect(refused('00b6010a')).not.toThrow();
  expect(refused('01b6010a')).toThrow('lies in pack 1');
  expect(refused('00010a')).toThrow('lies at -1');
  expect(refused('00b60100')).toThrow('lies at 91');
  expect(refused('00b6010b')).toThrow('is stored in 5 (zstd)');
  expect(refused('00b6010a00')).toThrow('follow its end');
  expect(refused('00b6010a', `02${sha256('p')}${sha256('q')}`)).toThrow('no chunk lies in one of their packs');
});
