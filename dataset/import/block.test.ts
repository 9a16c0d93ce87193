import { describe, expect, test } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { sha256 } from '../digest.ts';
import { BLOCK, BlockRow, Blocks, type Extent, extraBlocks, type Shared } from './block.ts';
import { BlockWriter } from './block-writer.ts';
import { CHUNK_MAX } from './chunker.ts';

describe('a row of blocks', () => {
  test('holds chunks of any size behind each other, in memory that is used again', async () => {
    const random = createRandom(1);
    const sizes = [1, BLOCK, BLOCK - 1, CHUNK_MAX, CHUNK_MAX, 4 * BLOCK, 4 * BLOCK + 1, BLOCK + 1, CHUNK_MAX];
    while (sizes.length < 30) sizes.push(1 + random.below(random.oneIn(4) ? CHUNK_MAX : 2 * BLOCK));
    const blocks = new Blocks();
    const made = new Set<SharedArrayBuffer>();
    const row = new BlockRow(blocks);
    /** What was given and not taken, and who waits. */
    const given: SharedArrayBuffer[] = [];
    let waiting: ((memory: SharedArrayBuffer) => void) | undefined;
    const give = (memory: SharedArrayBuffer) => {
      made.add(memory);
      const wake = waiting;
      waiting = undefined;
      if (wake) wake(memory);
      else given.push(memory);
    };
    const writer = new BlockWriter(
      async () =>
        given.shift() ??
        (await new Promise<SharedArrayBuffer>((resolve) => {
          waiting = resolve;
        })),
    );
    const arrived: { extents: readonly Extent[]; digest: string; length: number }[] = [];
    row.supply(0, give);
    const written = (async () => {
      for (const length of sizes) {
        const bytes = Buffer.alloc(length, `${length} `);
        const extra = extraBlocks(length);
        if (extra > 0) row.supply(extra, give);
        arrived.push({ extents: await writer.write(bytes), digest: sha256(bytes), length });
      }
    })();
    const kept: { digest: string; bytes: readonly Buffer[]; block: Shared }[] = [];
    for (let done = 0; done < sizes.length; ) {
      const next = arrived.shift();
      // A chunk is taken only when nothing more can be written without: so the writer is as far ahead as it can be.
      if (next === undefined || (waiting === undefined && done + arrived.length + 1 < sizes.length)) {
        if (next) arrived.unshift(next);
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      done += 1;
      const chunk = row.at(next.extents);
      chunk.block.hold();
      kept.push({ digest: next.digest, ...chunk });
      row.pass(next.extents.at(-1)!.block);
      row.supply(-extraBlocks(next.length), give);
      // Three chunks are kept, as a pack keeps them until it is written.
      if (kept.length > 3) {
        const { digest, bytes, block } = kept.shift()!;
        expect(sha256(Buffer.concat(bytes))).toBe(digest);
        block.release();
      }
    }
    await written;
    row.end();
    for (const { digest, bytes, block } of kept) {
      expect(sha256(Buffer.concat(bytes))).toBe(digest);
      block.release();
    }
    expect(made.size).toBeLessThan(45);
    // All of them are free again.
    const free = Array.from({ length: made.size }, () => blocks.take().memory);
    expect(new Set(free)).toEqual(made);
  });
});
