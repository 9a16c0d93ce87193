import { expect, test } from 'vitest';
import { createRandom } from '../../../test/support/random.ts';
import { type AnswerHead, HEAD_LIMIT, HeadReader } from './answer-head.ts';

const WHOLE =
  'HTTP/1.1 206 Partial Content\r\nETag: "abc"\r\nContent-Length:  12 \r\nContent-Range: bytes 3-14/99\r\n' +
  'x-amz-meta-a:\r\nX-Many: 1\r\nx-many: 2\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5, max=3\r\n\r\n';

/** Gives the text in parts; what follows the head is not taken. */
function read(text: string, cuts: readonly number[] = []): { head: AnswerHead | undefined; rest: string } {
  const bytes = Buffer.from(text, 'latin1');
  const reader = new HeadReader();
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    const part = bytes.subarray(from, cut);
    const taken = reader.take(part);
    if (reader.head !== undefined) return { head: reader.head, rest: bytes.toString('latin1', from + taken) };
    expect(taken).toBe(part.length);
    from = cut;
  }
  return { head: undefined, rest: '' };
}

const refused = (text: string) =>
  expect(() => read(text), JSON.stringify(text)).toThrow(expect.objectContaining({ code: 'WrongAnswer' }));

test('a head is read the same wherever it is cut, and what follows is left', () => {
  const expected = {
    head: {
      status: 206,
      headers: {
        etag: '"abc"',
        'content-length': '12',
        'content-range': 'bytes 3-14/99',
        'x-amz-meta-a': '',
        'x-many': '1, 2',
        connection: 'Keep-Alive',
        'keep-alive': 'timeout=5, max=3',
      },
      framing: 12,
      keeps: true,
      keptFor: 5000,
    },
    rest: 'body\r\n\r\n',
  };
  for (let cut = 1; cut < WHOLE.length; cut++) expect(read(`${WHOLE}body\r\n\r\n`, [cut])).toEqual(expected);
  const each = Array.from(WHOLE, (_, i) => i + 1);
  expect(read(`${WHOLE}body\r\n\r\n`, each).head).toEqual(expected.head);
});

test.each<[string, AnswerHead['framing'], boolean]>([
  ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 0, true],
  ['HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n', 5, true],
  ['HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n', 'chunked', true],
  ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE\r\n\r\n', 5, false],
  ['HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n', 5, false],
  ['HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n', 5, true],
  ['HTTP/1.1 200 OK\r\n\r\n', 'close', false],
  ['HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n', 0, true],
  ['HTTP/1.1 100 Continue\r\n\r\n', 0, true],
])('%j tells how its body ends', (text, framing, keeps) => {
  expect(read(text).head).toMatchObject({ framing, keeps });
});

test('what is no head is refused', () => {
  for (const text of [
    'SSH-2.0-OpenSSH\r\n',
    '\r\nHTTP/1.1 200 OK\r\n\r\n',
    'HTTP/2.0 200 OK\r\n\r\n',
    'HTTP/1.1 2000 OK\r\n\r\n',
    'HTTP/1.1 999 OK\r\n\r\n',
    'HTTP/1.1 200 O\x01K\r\n\r\n',
    'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
    'HTTP/1.1 200 OK\r\nspace : 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\n: 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n',
    'HTTP/1.1 200 OK\r\na: 1\nb: 2\r\n\r\n',
    'HTTP/1.1 200 OK\r\na: \x00\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    `HTTP/1.1 200 OK\r\n${'a: 1\r\n'.repeat(300)}\r\n`,
    `HTTP/1.1 200 OK\r\na: ${' '.repeat(HEAD_LIMIT)}b`,
  ])
    refused(text);
});

test('a header of any name is one, also that of a property that every object has', () => {
  const { head } = read('HTTP/1.1 200 OK\r\n__proto__: 1\r\nconstructor: 2\r\nContent-Length: 3\r\n\r\n');
  expect(head!.headers.constructor).toBe('2');
  expect(head!.framing).toBe(3);
});

test('whatever comes, it is read, waited for or refused', () => {
  const random = createRandom(7);
  const seen = { read: 0, waited: 0, refused: 0 };
  for (let round = 0; round < 5000; round++) {
    const bytes = Buffer.from(`${WHOLE}body`, 'latin1');
    for (let flips = 1 + random.below(3); flips > 0; flips--) {
      const at = random.below(bytes.length);
      if (random.oneIn(2)) bytes[at] = random.below(256);
      else bytes[at]! ^= 1 << random.below(8);
    }
    const text = bytes.toString('latin1').slice(0, random.oneIn(4) ? random.below(bytes.length) : bytes.length);
    const cuts = Array.from({ length: random.below(4) }, () => random.below(text.length + 1)).sort((a, b) => a - b);
    try {
      const { head } = read(text, cuts);
      if (head === undefined) seen.waited += 1;
      else seen.read += 1;
    } catch (error) {
      expect(error).toMatchObject({ code: 'WrongAnswer' });
      seen.refused += 1;
    }
  }
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(100);
});
