import { expect, it } from 'vitest';
import { bytesOf } from '../../dataset/byte-string.ts';
import { XATTR_INDEX } from './layout.ts';
import { filterBit } from './xattr.ts';
import { xxh32 } from './xxh32.ts';

it.each([
  ['', 0x02cc5d05],
  ['a', 0x550d7456],
  ['abc', 0x32d153ff],
  ['Nobody inspects the spammish repetition', 0xe2293b2f],
])('hashes %j as the reference does', (text, expected) => {
  expect(xxh32(Buffer.from(text), 0)).toBe(expected);
});

it('puts a name on the bit of the filter that Linux looks at', () => {
  expect(filterBit(XATTR_INDEX.trusted, bytesOf('overlay.redirect'))).toBe(1 << 17);
  expect(filterBit(XATTR_INDEX.trusted, bytesOf('overlay.upper'))).toBe(1 << 5);
  expect(filterBit(XATTR_INDEX.user, bytesOf('overlay.opaque'))).toBe(1 << 10);
});
