import { expect, test } from 'vitest';
import { createRandom } from '../test/support/random.ts';
import { randomTree } from '../test/support/random-tree.ts';
import { type ByteString, bufferOf, bytesOf } from './byte-string.ts';
import { InvalidError } from './errors.ts';
import { comparePaths, isWithin, joinPath, nameOf, parentOf, pathFault, validatePath } from './path.ts';

test('a directory is followed by all below it, whatever its siblings are called', () => {
  const sorted = ['', 'a', 'a/b', 'a/b/c', 'a/b-', 'a/ö', 'a ', 'a-', 'a-/x', 'a.b', 'a0', 'aa', 'b', 'ä'].map(bytesOf);
  const shuffled = [...sorted].reverse();
  expect(shuffled.sort(comparePaths)).toEqual(sorted);
});

test('path order is the order of the lists of components, each by its bytes', () => {
  const tree = randomTree(createRandom(5), 600).map(({ path }) => path);
  const components = (path: ByteString) =>
    path === '' ? [] : path.split('/').map((part) => bufferOf(part as ByteString));
  for (let i = 0; i < tree.length; i += 3) {
    for (let j = 0; j < tree.length; j += 7) {
      const [a, b] = [components(tree[i]!), components(tree[j]!)];
      let expected = 0;
      for (let k = 0; expected === 0 && k < Math.max(a.length, b.length); k++) {
        if (a[k] === undefined) expected = -1;
        else if (b[k] === undefined) expected = 1;
        else expected = Buffer.compare(a[k]!, b[k]!);
      }
      expect(Math.sign(comparePaths(tree[i]!, tree[j]!))).toBe(expected);
    }
  }
});

test('a path lies within a directory only at a component boundary', () => {
  expect(isWithin(bytesOf('a/b'), bytesOf('a'))).toBe(true);
  expect(isWithin(bytesOf('a'), bytesOf('a'))).toBe(true);
  expect(isWithin(bytesOf('ab'), bytesOf('a'))).toBe(false);
  expect(isWithin(bytesOf('a'), bytesOf('a/b'))).toBe(false);
  expect(isWithin(bytesOf('anything'), bytesOf(''))).toBe(true);
});

test('taking a path apart and joining it gives it back', () => {
  for (const text of ['a', 'a/b', 'a/b/c']) {
    const path = bytesOf(text);
    expect(joinPath(parentOf(path)!, nameOf(path))).toBe(path);
  }
  expect(parentOf(bytesOf(''))).toBeUndefined();
  expect(parentOf(bytesOf('a'))).toBe('');
});

test.each([
  ['/a', "begins with '/'"],
  ['a/', "ends with '/'"],
  ['/', "begins with '/'"],
  ['a//b', 'has an empty component'],
  ['.', "has the component '.'"],
  ['a/./b', "has the component '.'"],
  ['..', "has the component '..'"],
  ['a/..', "has the component '..'"],
  ['../a', "has the component '..'"],
  ['a\0b', 'has a NUL byte'],
  ['n'.repeat(256), 'has a component of 256 bytes, more than 255'],
  ['a/\u{100}', 'is not a byte string'],
])('the path %j is refused', (path, fault) => {
  expect(pathFault(path)).toBe(fault);
  expect(() => validatePath(path as ByteString)).toThrow(InvalidError);
});

test.each(['', 'a', '...', 'a/..b', '.a', 'a/b.', 'n'.repeat(255), '\xff\xfe', 'a\nb'])(
  'the path %j is taken',
  (path) => {
    expect(validatePath(path as ByteString)).toBe(path);
  },
);
