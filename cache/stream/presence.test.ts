import { expect, it } from 'vitest';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import { createRandom } from '../../test/support/random.ts';
import { piecesOf } from './pieces.ts';
import { BLOCK_BYTES, Presence } from './presence.ts';

/** Pieces of random lengths, some of them holes. */
function randomPieces(seed: number) {
  const random = createRandom(seed);
  const parts = Array.from({ length: 40 }, (_, at) => {
    const length = 1 + random.below(random.oneIn(3) ? 1000 : 5 * BLOCK_BYTES);
    return at % 5 === 4 ? { length } : { length, chunk: sha256(Buffer.from(`${seed} ${at}`)) };
  });
  const size = parts.reduce((sum, { length }) => sum + length, 0);
  return piecesOf({ content: { kind: 'chunks', id: 'x' as Digest, parts }, size });
}

it('shows a block to other threads exactly while all that lies in it is there, and a reader has come to what begins in it', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = createRandom(seed);
    const pieces = randomPieces(seed);
    const presence = new Presence(pieces);
    const there = new Set<number>();
    const unread = new Set<number>();
    for (let at = 0; at < pieces.count; at += 1) if (pieces.isHole(at)) there.add(at);
    for (let step = 0; step < 120; step += 1) {
      const at = random.below(pieces.count);
      if (random.oneIn(3)) {
        if (unread.delete(at)) presence.touch(at);
      } else if (random.oneIn(8) && !pieces.isHole(at)) {
        there.delete(at);
        unread.delete(at);
        presence.lose(at);
      } else if (!there.has(at)) {
        const ahead = random.oneIn(2);
        there.add(at);
        if (ahead) unread.add(at);
        presence.add(at, ahead);
      }
      expect(presence.whole).toBe(there.size === pieces.count);
      expect(presence.empty).toBe([...there].every((one) => pieces.isHole(one)));
      const bits = new Uint8Array(presence.blocks);
      for (let block = 0; block * BLOCK_BYTES < pieces.size; block += 1) {
        const from = block * BLOCK_BYTES;
        const to = Math.min(pieces.size, from + BLOCK_BYTES);
        let shown = true;
        for (let piece = pieces.find(from); piece < pieces.count && pieces.offset(piece) < to; piece += 1) {
          if (!there.has(piece) || (unread.has(piece) && pieces.offset(piece) >= from)) shown = false;
        }
        expect((bits[block >>> 3]! & (1 << (block & 7))) !== 0, `seed ${seed}, step ${step}, block ${block}`).toBe(
          shown,
        );
      }
    }
  }
});

it('finds the piece of a byte', () => {
  const pieces = randomPieces(7);
  for (let at = 0; at < pieces.count; at += 1) {
    expect(pieces.find(pieces.offset(at))).toBe(at);
    expect(pieces.find(pieces.offset(at + 1) - 1)).toBe(at);
  }
  expect(pieces.offset(pieces.count)).toBe(pieces.size);
});
