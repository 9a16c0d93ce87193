import { describe, expect, it } from 'vitest';
import { InvalidError } from './errors.ts';
import { metaFilter, parseMeta } from './meta.ts';

describe('metadata', () => {
  it('is keys and values, of which a value may hold anything', () => {
    expect(parseMeta(['accuracy=0.93', 'code=a=b', 'empty=', '__proto__=x'])).toEqual(
      Object.fromEntries([
        ['accuracy', '0.93'],
        ['code', 'a=b'],
        ['empty', ''],
        ['__proto__', 'x'],
      ]),
    );
  });

  it.each(['accuracy', '=1', 'a b=1', 'a>=1', 'a!=1'])('is not %s', (text) => {
    expect(() => parseMeta([text])).toThrow(InvalidError);
  });

  it('has one value for a key', () => {
    expect(() => parseMeta(['a=1', 'a=2'])).toThrow("'a' is given twice");
  });
});

describe('a condition', () => {
  const meta = { accuracy: '0.93', code: '3f2a', note: '', big: '1e3' };

  it.each([
    ['accuracy', true],
    ['note', true],
    ['toString', false],
    ['loss', false],
    ['code=3f2a', true],
    ['code = 3f2a', true],
    ['code=3f', false],
    ['note=', true],
    ['loss=', false],
    ['code!=3f2a', false],
    ['loss!=1', true],
    ['accuracy>0.9', true],
    ['accuracy>0.93', false],
    ['accuracy>=0.93', true],
    ['accuracy<1', true],
    ['accuracy <= 0.5', false],
    ['big>999', true],
    ['code>0', false],
    ['note<1', false],
    ['loss<1', false],
  ])('%s is %s', (text, expected) => {
    expect(metaFilter([text])(meta)).toBe(expected);
  });

  it('is met together with all others', () => {
    expect(metaFilter(['accuracy>0.9', 'code=3f2a'])(meta)).toBe(true);
    expect(metaFilter(['accuracy>0.9', 'code=other'])(meta)).toBe(false);
    expect(metaFilter([])(meta)).toBe(true);
  });

  it.each(['', '=1', 'a b', 'accuracy>high', '>1'])("that is none is refused: '%s'", (text) => {
    expect(() => metaFilter([text])).toThrow(InvalidError);
  });
});
