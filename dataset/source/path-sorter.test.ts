import { describe, expect, it } from 'vitest';
import type { ByteString } from '../byte-string.ts';
import type { Entry } from '../entry.ts';
import { comparePaths } from '../path.ts';
import { PathSorter } from './path-sorter.ts';

const about = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };

describe('sorting entries', () => {
  it('is a stable sort by path, with as many runs in a file as it takes', () => {
    for (const held of [3, 7, 100, 5000]) {
      using sorter = new PathSorter({ held });
      const added: { path: ByteString; number: number }[] = [];
      for (let number = 0; number < 3000; number++) {
        const path = ['a', 'a-b', 'a/b', 'b', `c/${(number * 7919) % 501}`, `d-${number % 13}`][
          number % 6
        ] as ByteString;
        added.push({ path, number });
        sorter.add(fileAt(path, number), number);
      }
      const expected = added.toSorted((a, b) => comparePaths(a.path, b.path) || a.number - b.number);
      for (let time = 0; time < 2; time++) {
        const found = [...sorter.sorted()];
        expect(found.map(({ entry, number }) => ({ path: entry.path, number }))).toEqual(expected);
        // What went through the file is what it was.
        for (const { entry, number } of found) expect(entry).toEqual(fileAt(entry.path, number));
      }
    }
  });

  it('gives nothing of nothing', () => {
    using sorter = new PathSorter();
    expect([...sorter.sorted()]).toEqual([]);
  });
});

function fileAt(path: ByteString, number: number): Entry {
  const bytes = Buffer.from(`content of ${number}`);
  const xattrs = [{ name: 'user.number' as ByteString, value: Buffer.from([number & 0xff, 0xff]) }];
  return { ...about, type: 'file', path, xattrs, size: bytes.length, content: { kind: 'inline', bytes } };
}
