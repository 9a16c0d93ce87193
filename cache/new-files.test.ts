import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { linkByDescriptor, linkFromProc } from '../system/calls.ts';
import { moveInto, NewFiles } from './new-files.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'larder-new-files-'));
  mkdirSync(join(folder, 'incoming'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const incoming = () => readdirSync(join(folder, 'incoming'));
const place = () => join(folder, 'a place of its own, ünd');
/** What this process has open below the folder. */
const open = () =>
  readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        // The one that listed them.
        return '';
      }
    })
    .filter((path) => path.startsWith(folder));

describe.each([
  { what: 'without a name, named by its descriptor', ways: [linkByDescriptor] },
  { what: 'without a name, named by way of /proc', ways: [linkFromProc] },
  { what: 'with a name of its own', ways: [] },
])('a file made $what', ({ ways }) => {
  const make = (text: string) => {
    const files = new NewFiles(join(folder, 'incoming'), ways);
    const file = files.create();
    writeSync(file.descriptor, text);
    return { files, file };
  };

  it('is in its place, read-only, and nowhere else', () => {
    const { files, file } = make('whole');
    expect(files.place(file, place())).toBe(true);
    expect(readFileSync(place(), 'utf8')).toBe('whole');
    expect(statSync(place()).mode & 0o7777).toBe(0o444);
    expect(statSync(place()).nlink).toBe(1);
    expect([...incoming(), ...open()]).toEqual([]);
  });

  it('leaves what is in its place, and goes', () => {
    writeFileSync(place(), 'first');
    const { ino } = statSync(place());
    const { files, file } = make('second');
    expect(files.place(file, place())).toBe(false);
    expect(readFileSync(place(), 'utf8')).toBe('first');
    expect(statSync(place()).ino).toBe(ino);
    expect([...incoming(), ...open()]).toEqual([]);
  });

  it('that gets no place can be dropped, and nothing is left', () => {
    const { files, file } = make('nobody wants it');
    expect(() => files.place(file, join(folder, 'no such folder', 'name'))).toThrow('ENOENT');
    files.drop(file);
    expect([...incoming(), ...open()]).toEqual([]);
  });
});

it('a file that has a name moves to one that is free, or goes', () => {
  const from = join(folder, 'incoming', 'named');
  writeFileSync(from, 'first');
  expect(moveInto(from, place())).toBe(true);
  writeFileSync(from, 'second');
  expect(moveInto(from, place())).toBe(false);
  expect(readFileSync(place(), 'utf8')).toBe('first');
  expect(incoming()).toEqual([]);
});
