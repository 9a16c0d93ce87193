import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../test/support/random.ts';
import { textOf } from '../../byte-string.ts';
import { LarderError } from '../../errors.ts';
import { readNumber } from './header.ts';
import { paxTime, readPax } from './pax.ts';
import { readTar } from './read-tar.ts';
import { member, tarOf } from './test-tar.ts';

describe('reading tar', () => {
  it('gives the same members however the stream is cut', async () => {
    const archive = tarOf([member('a', 'x'.repeat(700)), member('b/', ''), member('b/c', 'y')]);
    const whole = await membersOf([archive]);
    expect(whole).toEqual(['file a 700', 'directory b', 'file b/c 1']);
    for (const size of [1, 7, 511, 512, 513]) {
      const pieces: Buffer[] = [];
      for (let at = 0; at < archive.length; at += size) pieces.push(archive.subarray(at, at + size));
      expect(await membersOf(pieces)).toEqual(whole);
    }
  });

  it('passes by what the reader of a member leaves', async () => {
    const archive = tarOf([member('a', 'x'.repeat(7000)), member('b', 'y')]);
    const names: string[] = [];
    for await (const each of readTar(stream([archive]), 'it')) names.push(textOf(each.path));
    expect(names).toEqual(['a', 'b']);
  });

  it('makes paths of names: without dots and doubled slashes', async () => {
    const names = ['./a', 'b//c', './/d/./e', 'f/'];
    expect(await membersOf([tarOf(names.map((name) => member(name, '')))])).toEqual([
      'file a 0',
      'file b/c 0',
      'file d/e 0',
      'directory f',
    ]);
  });

  it('reads numbers in octal and in binary', () => {
    const field = (bytes: readonly number[] | string) => readNumber(Buffer.from(bytes as string), 0, bytes.length);
    expect(field('0000644\0')).toBe(0o644);
    expect(field('  644 \0\0')).toBe(0o644);
    expect(field('\0\0\0\0\0\0\0\0')).toBe(0);
    expect(field('00x0644\0')).toBeUndefined();
    expect(field([0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0])).toBe(2 ** 33);
    expect(field([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe])).toBe(-2);
  });

  it('reads times to the nanosecond, also before 1970', () => {
    expect(paxTime('1700000000.123456789')).toEqual({ seconds: 1_700_000_000, nanos: 123_456_789 });
    expect(paxTime('5')).toEqual({ seconds: 5, nanos: 0 });
    expect(paxTime('-1.25')).toEqual({ seconds: -2, nanos: 750_000_000 });
    expect(paxTime('-3')).toEqual({ seconds: -3, nanos: 0 });
    expect(paxTime('1e5')).toBeUndefined();
  });

  it('takes pax records only where their lengths fit', () => {
    expect(readPax(Buffer.from('12 path=abc\n'))?.get('path')).toEqual([Buffer.from('abc')]);
    for (const text of [
      '11 path=abc\n',
      '13 path=abc\n',
      '12 path=abcd',
      'path=abc\n',
      '-1 a=b\n',
      '999999999999 a=b\n',
      '5 ab\n',
    ])
      expect(readPax(Buffer.from(text)), text).toBeUndefined();
  });

  it('answers any damage with an error of ours, or with members, and ends', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'larder-tar-fuzz-'));
    try {
      const source = join(folder, 'source');
      mkdirSync(join(source, 'n'.repeat(120)), { recursive: true });
      writeFileSync(join(source, 'n'.repeat(120), 'file'), 'content');
      symlinkSync('s'.repeat(150), join(source, 'link'));
      const fd = openSync(join(source, 'sparse'), 'w');
      for (let i = 0; i < 8; i++) writeSync(fd, Buffer.from('data'), 0, 4, i * 100_000);
      ftruncateSync(fd, 900_000);
      closeSync(fd);
      const random = createRandom(11);
      for (const format of ['gnu', 'pax', 'ustar']) {
        const file = join(folder, `${format}.tar`);
        execFileSync('tar', [
          '-C',
          source,
          `--format=${format}`,
          ...(format === 'ustar' ? ['--exclude=link', '--exclude=n*'] : ['-S']),
          '-cf',
          file,
          '.',
        ]);
        const archive = readFileSync(file);
        for (let i = 0; i < 400; i++) {
          const damaged = Buffer.from(archive);
          for (let k = random.below(4); k >= 0; k--) {
            const at = random.below(damaged.length);
            damaged[at] = random.below(256);
            if (random.oneIn(2)) fixChecksum(damaged, at - (at % 512));
          }
          try {
            await membersOf([random.oneIn(4) ? damaged.subarray(0, random.below(damaged.length)) : damaged]);
          } catch (error) {
            expect(error, `${format} ${i}: ${error}`).toBeInstanceOf(LarderError);
          }
        }
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

async function* stream(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

async function membersOf(pieces: readonly Buffer[]): Promise<string[]> {
  const found: string[] = [];
  for await (const each of readTar(stream(pieces), 'it')) {
    let size = 0;
    if (each.type === 'file')
      for await (const piece of each.body) size += Buffer.isBuffer(piece) ? piece.length : piece.hole;
    found.push(`${each.type} ${textOf(each.path)}${each.type === 'file' ? ` ${size}` : ''}`);
  }
  return found;
}

/** So that damage is met behind the checksum, too. */
function fixChecksum(archive: Buffer, at: number): void {
  const header = archive.subarray(at, at + 512);
  if (header.length < 512) return;
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}
