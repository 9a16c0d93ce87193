import { describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { locationsKey, packKey, segmentKey, versionKey } from '../../dataset/keys.ts';
import { formatPath, formatRange, parseInfo, parsePath, parseRange, sharedKey } from './wire.ts';

const digest = sha256('a pack');
const repository = '2f0c1e8a-5d4b-4c3a-9e2f-0123456789ab';

describe('a path', () => {
  it.each([packKey(digest), segmentKey(digest), locationsKey(digest)])('comes back as it was: %s', (key) => {
    expect(parsePath(formatPath(repository, key))).toEqual({ repository, key, digest, kind: key.split('/')[0] });
  });

  it.each([
    versionKey(digest),
    'datasets/a/branches/main',
    'repository.json',
    `packs/00/${digest}`,
    `packs/${digest.slice(0, 2)}/${digest}/more`,
    `packs/${digest.slice(0, 2)}/${digest.slice(1)}`,
    `packs/../packs/${digest.slice(0, 2)}/${digest}`,
  ])('is none for what is not shared: %s', (key) => {
    expect(sharedKey(key)).toBeUndefined();
    expect(parsePath(formatPath(repository, key))).toBeUndefined();
  });

  it.each(['', '/', '/v2/x', `/v1/../${packKey(digest)}`, `/v1/${repository}`, `//${repository}/${packKey(digest)}`])(
    'is none: %s',
    (path) => expect(parsePath(path)).toBeUndefined(),
  );
});

describe('a range', () => {
  it('comes back as it was', () => {
    for (const range of [
      { offset: 0, length: 1 },
      { offset: 12_345_678_901, length: 65_536 },
    ])
      expect(parseRange(formatRange(range))).toEqual(range);
  });

  it.each(['bytes=5-4', 'bytes=-5', 'bytes=5-', 'bytes=0-1,3-4', 'items=0-1', 'bytes=1e3-2000', ''])(
    'is none: %s',
    (header) => expect(parseRange(header)).toBe('wrong'),
  );

  it('is not taken for another one', () => {
    const modified = new Date('2025-01-31T12:00:00Z');
    const headers = {
      etag: '"e"',
      'last-modified': modified.toUTCString(),
      'content-length': '10',
      'content-range': 'bytes 20-29/100',
    };
    expect(parseInfo(headers, { offset: 20, length: 10 })).toEqual({
      info: { size: 100, etag: 'e', modified },
      length: 10,
    });
    expect(parseInfo(headers, { offset: 21, length: 10 })).toBeUndefined();
    expect(parseInfo(headers, { offset: 20, length: 11 })).toBeUndefined();
    expect(parseInfo(headers, undefined)).toBeUndefined();
    expect(parseInfo({ ...headers, etag: 'e' }, { offset: 20, length: 10 })).toBeUndefined();
  });
});
