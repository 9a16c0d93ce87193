import { expect, test } from 'vitest';
import { validateKey } from './bucket/keys.ts';
import { escapeName, nameFault, nearestName, unescapeName, validateName } from './names.ts';

const good = ['imagenet', 'imagenet/train', 'ImageNet_1k-v2.0', 'größe', '数据', 'with space', 'a+b=c', 'v1.0'];

test.each(good)("'%s' may be a dataset's, a branch's and a tag's name, and makes one component of a key", (name) => {
  for (const kind of ['dataset', 'branch', 'tag'] as const) expect(validateName(kind, name)).toBe(name);
  expect(escapeName(name)).not.toContain('/');
  expect(validateKey(escapeName(name))).toBe(escapeName(name));
  expect(unescapeName(escapeName(name))).toBe(name);
});

test('different names have different escaped forms', () => {
  const names = [...good, 'a/b', 'a%2Fb'.replace('%', '_'), 'A/b', 'a.b', 'a b', '.a', 'ä', 'a\u0308'];
  expect(new Set(names.map(escapeName)).size).toBe(names.length);
});

test('what no name escapes to is not taken for one', () => {
  for (const escaped of ['%', '%2', '%zz', '%61', 'ä', 'a%2fb', '%FF', '.a'])
    expect(unescapeName(escaped)).toBeUndefined();
});

test.each([
  ['', 'it is empty'],
  ['a@b', "it has '@'"],
  ['a:b', "it has ':'"],
  ['a*', "it has '*'"],
  ['-a', "begins with '-'"],
  ['.a', "begins with '.'"],
  ['a/../b', "begins with '.'"],
  ['a//b', 'is empty'],
  ['/a', 'is empty'],
  [' a', 'a space'],
  ['a\n', 'a control character'],
  ['\ud800', 'not valid Unicode'],
  ['n'.repeat(201), 'longer than 200 bytes'],
  ['ö'.repeat(60), 'longer than 200 bytes'],
])('%j is refused as a name, with the reason', (name, reason) => {
  for (const kind of ['dataset', 'branch', 'tag'] as const) {
    expect(nameFault(kind, name)).toContain(reason);
    expect(() => validateName(kind, name)).toThrow(`cannot be a ${kind}'s name`);
  }
});

test('a branch or tag cannot be called as what means something else', () => {
  for (const kind of ['branch', 'tag'] as const) {
    expect(nameFault(kind, 'latest')).toContain("head of 'main'");
    expect(nameFault(kind, '0123456789ab')).toContain('version id');
  }
  expect(nameFault('dataset', 'latest')).toBeUndefined();
  expect(nameFault('branch', '2024')).toBeUndefined();
});

test('the nearest name is suggested, and none where none is near', () => {
  const names = ['imagenet', 'coco', 'laion-400m'];
  expect(nearestName('imagent', names)).toBe('imagenet');
  expect(nearestName('ImageNet', names)).toBe('imagenet');
  expect(nearestName('cooc', names)).toBe('coco');
  expect(nearestName('laion400m', names)).toBe('laion-400m');
  expect(nearestName('mnist', names)).toBeUndefined();
  expect(nearestName('x', [])).toBeUndefined();
});
