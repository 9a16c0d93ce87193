import { expect, test } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { BlockRing } from './block-ring.ts';
import type { GetOptions } from './bucket.ts';

const random = createRandom(2);
const bytes = random.bytes(5 * 1024 * 1024 + 7);
const info = { size: bytes.length, etag: 'e', modified: new Date(0) };

/** A bucket that fills what it is given, ahead of whoever reads. */
function filling(memories: Set<ArrayBufferLike>) {
  return async (_: string, { into }: GetOptions = {}) => {
    const ready: Buffer[] = [];
    let wake = () => {};
    const fill = async () => {
      for (let at = 0; at < bytes.length; ) {
        const piece = await into!();
        memories.add(piece.buffer);
        const part = bytes.subarray(at, at + piece.length);
        piece.set(part);
        ready.push(Buffer.from(piece.buffer, piece.byteOffset, part.length));
        at += part.length;
        wake();
      }
    };
    void fill();
    async function* body() {
      for (let given = 0; given < bytes.length; ) {
        while (ready.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        const block = ready.shift()!;
        given += block.length;
        yield block;
      }
    }
    return { ...info, body: body() };
  };
}

test('bodies come through one piece of memory, and no block changes before the next is asked for', async () => {
  const memories = new Set<ArrayBufferLike>();
  const ring = new BlockRing();
  for (let times = 0; times < 2; times++) {
    const { body, size } = await ring.get({ get: filling(memories) }, 'x', {});
    expect(size).toBe(bytes.length);
    let done = 0;
    for await (const block of body) {
      if (random.oneIn(2)) await new Promise((resolve) => setImmediate(resolve));
      expect(block.equals(bytes.subarray(done, done + block.length))).toBe(true);
      done += block.length;
    }
    expect(done).toBe(bytes.length);
  }
  expect(memories.size).toBe(1);
});

test('a bucket with memory of its own is read as it is, also where it is left', async () => {
  const ring = new BlockRing();
  const get = async () => ({
    ...info,
    body: (async function* () {
      yield bytes.subarray(0, 3_000_000);
      yield bytes.subarray(3_000_000);
    })(),
  });
  const parts: Buffer[] = [];
  for await (const block of (await ring.get({ get }, 'x', {})).body) parts.push(block);
  expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  for await (const block of (await ring.get({ get }, 'x', {})).body) if (block.length > 0) break;
});
