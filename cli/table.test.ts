import { describe, expect, it } from 'vitest';
import { displayWidth, formatTable } from './table.ts';

describe('a table', () => {
  it('lines columns up and ends no line in spaces', () => {
    const lines = formatTable(
      [{ title: 'NAME' }, { title: 'SIZE', align: 'right' }, { title: 'NOTE' }],
      [
        ['emoji', '42 B', ''],
        ['a', '1.00 KiB', 'x'],
      ],
    );
    expect(lines).toEqual(['NAME       SIZE  NOTE', 'emoji      42 B', 'a      1.00 KiB  x']);
  });

  it('counts what a terminal shows: wide characters twice, marks not at all', () => {
    expect(displayWidth('abc')).toBe(3);
    expect(displayWidth('日本')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth('😀')).toBe(2);
    expect(displayWidth('❤️')).toBe(2);
    expect(displayWidth('é')).toBe(1);
  });
});
