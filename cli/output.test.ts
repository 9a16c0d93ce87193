import { describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import { bytesFields, createOutput, wantsColor } from './output.ts';

function stream(isTTY = false) {
  const chunks: (string | Uint8Array)[] = [];
  return {
    isTTY,
    columns: 80,
    text: () => chunks.join(''),
    write: (chunk: string | Uint8Array) => chunks.push(chunk) > 0,
    once: () => {},
  };
}

describe('output', () => {
  it('says lines to people and documents to programs, never both', async () => {
    for (const json of [false, true]) {
      const stdout = stream();
      const output = createOutput({ stdout, stderr: stream(), json, color: false });
      output.line('one');
      output.document({ one: 1 });
      await output.drain();
      expect(stdout.text()).toBe(json ? '{"one":1}\n' : 'one\n');
    }
  });

  it('keeps results and warnings in the order that they were said', async () => {
    const both = stream();
    const output = createOutput({ stdout: both, stderr: both, json: false, color: false });
    output.line('first');
    output.warn('second');
    output.line('third');
    await output.drain();
    expect(both.text()).toBe('first\nlarder: warning: second\nthird\n');
  });

  it('colours a terminal, not a pipe, and not where NO_COLOR is set', () => {
    expect(wantsColor({ isTTY: true, write: () => true }, {})).toBe(true);
    expect(wantsColor({ isTTY: false, write: () => true }, {})).toBe(false);
    expect(wantsColor({ isTTY: true, write: () => true }, { NO_COLOR: '1' })).toBe(false);
    const plain = createOutput({ stdout: stream(), stderr: stream(), json: false, color: false });
    expect(plain.style('red', 'x')).toBe('x');
    const colored = createOutput({ stdout: stream(), stderr: stream(), json: false, color: true });
    expect(colored.style('red', 'x')).toBe('\x1b[31mx\x1b[39m');
  });

  it('gives names that are no UTF-8 twice: to read and to use', () => {
    expect(bytesFields('path', bytesOf('né\n'))).toEqual({ path: 'né\n' });
    const fields = bytesFields('path', 'a\xff' as ByteString);
    expect(fields).toEqual({ path: 'a\\xff', pathBase64: 'Yf8=' });
  });
});
