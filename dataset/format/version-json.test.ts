import { describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../digest.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { decodeVersion, encodeVersion } from './version-json.ts';

const root = sha256('root');
const data = { dataset: 'images/train', version: sha256('train') };
const fields = {
  root,
  parents: [sha256('parent')],
  author: 'Ada',
  time: '2026-01-02T03:04:05.678Z',
  message: 'epoch 3',
  meta: { accuracy: '0.93' },
  entries: 3,
  bytes: 42,
};

describe('a version', () => {
  it('tells what it was made from, and says nothing where it was made from nothing', () => {
    const { version, object } = encodeVersion({ ...fields, from: [data] });
    expect(object.toString()).toBe(
      `{"author":"Ada","bytes":42,"entries":3,"format":1,"from":[{"dataset":"images/train","version":"${data.version}"}],` +
        `"message":"epoch 3","meta":{"accuracy":"0.93"},"parents":["${fields.parents[0]}"],"root":"${root}","time":"2026-01-02T03:04:05.678Z"}\n`,
    );
    expect(version).toEqual({ id: sha256(object), ...fields, from: [data] });
    expect(decodeVersion(version.id, object)).toEqual(version);
    const plain = encodeVersion({ ...fields, from: [] });
    expect(plain.object.toString()).not.toContain('from');
    expect(plain.version).toEqual({ id: sha256(plain.object), ...fields });
    expect(decodeVersion(plain.version.id, plain.object)).toEqual(plain.version);
  });

  it.each([
    ['an empty list', []],
    ['no list', { dataset: 'a', version: data.version }],
    ['a version without a dataset', [{ version: data.version }]],
    ['a dataset without a name', [{ dataset: '', version: data.version }]],
    ['a digest that is none', [{ dataset: 'a', version: 'abc' }]],
    ['another field', [{ ...data, why: 'so' }]],
    ['the same twice', [data, data]],
  ])('is damaged where what it was made from is %s', (_, from) => {
    const json = JSON.parse(encodeVersion({ ...fields, from: [data] }).object.toString()) as Record<string, unknown>;
    const object = Buffer.from(`${JSON.stringify({ ...json, from })}\n`);
    expect(() => decodeVersion(sha256(object), object)).toThrow(CorruptError);
  });

  it('is not stored with an origin that is none', () => {
    expect(() => encodeVersion({ ...fields, from: [{ dataset: 'a', version: 'x' as Digest }] })).toThrow(InvalidError);
  });
});
