import { expect, it } from 'vitest';
import { table } from './report.ts';

it('a table names what each column is: a ratio beside something else, or a figure, and what became of the goal', () => {
  const lines = table([
    { what: 'reads', larder: '9 MB/s', rival: '10 MB/s', rivalName: 'native', value: 0.9, goal: { atLeast: 0.95 } },
    { what: 'memory', larder: '', value: 150, unit: 'MB', goal: { atMost: 200 } },
  ]).split('\n');
  const cells = lines.map((line) => line.split('|').map((cell) => cell.trim()));
  expect(cells[0]).toEqual(['', 'what', 'Larder', 'compared with', 'ratio', 'or figure', 'goal', '']);
  expect(cells[2]).toEqual(['', 'reads', '9 MB/s', '10 MB/s (native)', '0.90', '', '≥ 0.95 MISSED', '']);
  expect(cells[3]).toEqual(['', 'memory', '', '', '', '150.00 MB', '≤ 200 MB met', '']);
});
