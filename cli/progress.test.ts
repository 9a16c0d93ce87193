import { describe, expect, it } from 'vitest';
import { createProgress, progressLine } from './progress.ts';

function terminal(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  return { isTTY, columns, written, write: (text: string) => written.push(text) };
}

describe('a progress bar', () => {
  it('writes nothing where stderr is no terminal', () => {
    const pipe = terminal(false);
    let time = 0;
    const progress = createProgress(pipe, () => time);
    for (; time < 10_000; time += 50) progress.update({ phase: 'Importing', files: time, bytes: time });
    progress[Symbol.dispose]();
    expect(pipe.written).toEqual([]);
  });

  it('draws ten times a second at most, and leaves an empty line', () => {
    const screen = terminal(true);
    let time = 0;
    {
      using progress = createProgress(screen, () => time);
      for (; time < 2000; time += 1) progress.update({ phase: 'Importing', files: time, bytes: time });
    }
    expect(screen.written.length).toBeGreaterThan(10);
    expect(screen.written.length).toBeLessThanOrEqual(21);
    expect(screen.written.at(-1)).toBe('\r\x1b[K');
  });

  it('shows no bar for work that is over at once', () => {
    const screen = terminal(true);
    let time = 0;
    const progress = createProgress(screen, () => time);
    for (; time < 250; time += 10) progress.update({ phase: 'Importing', files: time, bytes: time });
    progress[Symbol.dispose]();
    expect(screen.written).toEqual([]);
  });

  it('tells count, bytes, rate and time left', () => {
    const line = progressLine(
      { phase: 'Importing', files: 1930, totalFiles: 3778, bytes: 21 * 2 ** 20, totalBytes: 42 * 2 ** 20 },
      { files: 1000, bytes: 7 * 2 ** 20 },
      120,
    );
    expect(line).toMatch(
      /^Importing \[#{15}-{15}\] 50% {2}1,930\/3,778 files {2}21\.0 MiB of 42\.0 MiB {2}7\.00 MiB\/s {2}3 s left$/,
    );
  });

  it('goes by files where there are no bytes, and guesses no end where there is no total', () => {
    expect(progressLine({ phase: 'Scanning', files: 10, bytes: 0 }, { files: 5, bytes: 0 }, 80)).toBe(
      'Scanning 10 files  5 files/s',
    );
  });

  it('never wraps a narrow terminal', () => {
    for (let width = 0; width < 100; width++) {
      const state = { phase: 'Importing', files: 1, totalFiles: 2, bytes: 1, totalBytes: 2 };
      expect(progressLine(state, { files: 1, bytes: 1 }, width).length).toBeLessThanOrEqual(width);
    }
  });

  it('measures the speed of the last seconds, not of the whole work', () => {
    const screen = terminal(true, 200);
    let time = 0;
    const progress = createProgress(screen, () => time);
    let bytes = 0;
    for (; time < 20_000; time += 100) {
      bytes += time < 10_000 ? 100 * 2 ** 20 : 0.5 * 2 ** 20;
      progress.update({ phase: 'Importing', files: 1, bytes });
    }
    expect(screen.written.at(-1)).toContain('5.00 MiB/s');
  });
});
