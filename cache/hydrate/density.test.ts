import { describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import type { ChunkLocation } from '../../dataset/location.ts';
import { isDense } from './density.ts';

const [pack, other] = [sha256('a pack'), sha256('another')];

/** Chunks of 1000 bytes, one each `stride` bytes. */
function chunks(count: number, stride = 1000, of = pack): ChunkLocation[] {
  return Array.from({ length: count }, (_, at) => ({
    id: sha256(`${of} ${at}`),
    pack: of,
    offset: 500 + at * stride,
    stored: 1000,
    length: 1000,
    codec: 'raw',
  }));
}

const all = () => true;
const numberOf = (locations: readonly ChunkLocation[]) => {
  const numbers = new Map<Digest, number>(locations.map(({ id }, at) => [id, at]));
  return (id: Digest) => numbers.get(id)!;
};

describe('a pack', () => {
  it('is read whole where all or a good part of it is missing', () => {
    const locations = [...chunks(400), ...chunks(50, 1000, other)];
    expect(isDense(pack, locations, all)).toBe(true);
    const number = numberOf(locations);
    expect(isDense(pack, locations, (id) => number(id) > 200)).toBe(true);
  });

  it('is read by ranges where little of it is missing, or where little of it is this version’s', () => {
    const locations = chunks(400);
    const number = numberOf(locations);
    expect(isDense(pack, locations, (id) => number(id) > 380)).toBe(false);
    expect(isDense(pack, chunks(20, 20_000), all)).toBe(false);
  });

  it('of one object is read whole', () => {
    expect(isDense(pack, chunks(1), all)).toBe(true);
    expect(isDense(other, chunks(1), all)).toBe(false);
  });

  it('is judged by a bounded number of looks', () => {
    let looks = 0;
    isDense(pack, chunks(5000), () => {
      looks += 1;
      return true;
    });
    expect(looks).toBeLessThanOrEqual(50);
  });
});
