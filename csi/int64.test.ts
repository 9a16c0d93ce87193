import { expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { sizeOf } from './int64.ts';

it('reads a size as far as a number holds it exactly', () => {
  expect(sizeOf('0', 'size')).toBe(0);
  expect(sizeOf('9007199254740991', 'size')).toBe(2 ** 53 - 1);
});

it.each(['9007199254740992', '9223372036854775807', '-1', '-9223372036854775808'])('refuses %s', (text) => {
  expect(() => sizeOf(text, 'limit_bytes')).toThrow(InvalidError);
  expect(() => sizeOf(text, 'limit_bytes')).toThrow(`limit_bytes is ${text}`);
});
