import { expect, it } from 'vitest';
import { crc32c } from './crc32c.ts';

it('computes the check value of CRC-32C, which is inverted at its end', () => {
  expect(~crc32c(Buffer.from('123456789')) >>> 0).toBe(0xe3069283);
});

it('starts from all ones', () => {
  expect(crc32c(Buffer.alloc(0))).toBe(0xffffffff);
});
