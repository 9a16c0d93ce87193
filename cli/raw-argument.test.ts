import { describe, expect, it } from 'vitest';
import { bytesOf } from '../dataset/byte-string.ts';
import { rawArgument } from './raw-argument.ts';

const line =
  (...arguments_: string[]) =>
  () =>
    Buffer.from(arguments_.map((argument) => `${argument}\0`).join(''), 'latin1');
const decode = (latin1: string) => Buffer.from(latin1, 'latin1').toString('utf8');

describe('an argument', () => {
  it('is what was typed, where it is UTF-8', () => {
    expect(rawArgument('né', line())).toBe(bytesOf('né'));
  });

  it('keeps bytes that are no UTF-8', () => {
    expect(rawArgument(decode('a\xff/b'), line('node', 'main.ts', 'cat', 'x', 'a\xff/b'))).toBe('a\xff/b');
  });

  it('is found behind an option and an equals sign', () => {
    expect(rawArgument(decode('a\xff='), line('node', '--prefix=a\xff='))).toBe('a\xff=');
  });

  it('may hold the replacement character itself', () => {
    const text = 'a\ufffd';
    expect(rawArgument(text, line('node', bytesOf(text)))).toBe(bytesOf(text));
  });
});
