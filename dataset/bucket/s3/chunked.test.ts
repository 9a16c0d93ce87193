import { expect, test } from 'vitest';
import { createRandom, type Random } from '../../../test/support/random.ts';
import { ChunkedDecoder } from './chunked.ts';

function encoded(random: Random, data: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < data.length; ) {
    const part = data.subarray(at, at + 1 + random.below(300));
    const size = part.length.toString(16);
    const extension = random.oneIn(4) ? ';name="a;b"' : random.oneIn(4) ? ' ; x' : '';
    parts.push(Buffer.from(`${random.oneIn(2) ? size.toUpperCase() : `0${size}`}${extension}\r\n`), part);
    parts.push(Buffer.from('\r\n'));
    at += part.length;
  }
  return Buffer.concat([...parts, Buffer.from(random.oneIn(2) ? '0\r\n\r\n' : '000\r\nSum: 1\r\nB: 2\r\n\r\n')]);
}

function decode(bytes: Buffer, cuts: readonly number[]): { data: Buffer; used: number; done: boolean } {
  const decoder = new ChunkedDecoder();
  const parts: Uint8Array[] = [];
  let used = 0;
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    used += decoder.take(bytes.subarray(from, cut), (data) => parts.push(data));
    from = cut;
  }
  return { data: Buffer.concat(parts), used, done: decoder.done };
}

const cutsOf = (random: Random, length: number) =>
  Array.from({ length: random.below(20) }, () => random.below(length + 1)).sort((a, b) => a - b);

test('a body in chunks is put together however it is cut, and what follows is left', () => {
  const random = createRandom(3);
  for (let round = 0; round < 200; round++) {
    const data = random.bytes(random.below(2000));
    const bytes = encoded(random, data);
    const followed = Buffer.concat([bytes, Buffer.from('HTTP/1.1 200')]);
    const found = decode(followed, cutsOf(random, followed.length));
    expect(found.data.equals(data)).toBe(true);
    expect(found).toMatchObject({ used: bytes.length, done: true });
    expect(decode(bytes.subarray(0, -1), []).done).toBe(false);
  }
});

test('what is no body in chunks is refused', () => {
  for (const text of [
    'x\r\n',
    '\r\n',
    '-1\r\n',
    '5\n',
    '5\rx',
    '1\r\nab\r\n',
    '1\r\na\n',
    'fffffffffffff\r\n',
    `1;${'x'.repeat(2000)}`,
    `0\r\n${'a: b\r\n'.repeat(4000)}`,
    '0\r\na\nb',
  ])
    expect(() => new ChunkedDecoder().take(Buffer.from(text), () => {}), text.slice(0, 20)).toThrow(
      expect.objectContaining({ code: 'WrongAnswer' }),
    );
});

test('whatever comes, it is taken, waited for or refused', () => {
  const random = createRandom(5);
  const seen = { done: 0, waited: 0, refused: 0 };
  for (let round = 0; round < 3000; round++) {
    const bytes = encoded(random, random.bytes(random.below(100)));
    for (let flips = random.below(3); flips > 0; flips--) bytes[random.below(bytes.length)] = random.below(256);
    try {
      seen[decode(bytes, cutsOf(random, bytes.length)).done ? 'done' : 'waited'] += 1;
    } catch (error) {
      expect(error).toMatchObject({ code: 'WrongAnswer' });
      seen.refused += 1;
    }
  }
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(0);
});
