import { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import { openScreen } from './screen.ts';

function terminal() {
  const written: string[] = [];
  const keyboard = Object.assign(new EventEmitter(), {
    isTTY: true,
    raw: false,
    setRawMode(raw: boolean) {
      this.raw = raw;
    },
    resume() {},
    pause() {},
  });
  return { written, keyboard, out: { isTTY: true, columns: 40, rows: 4, write: (text: string) => written.push(text) } };
}

it('takes the terminal, and gives it back as it was', () => {
  const { written, keyboard, out } = terminal();
  const screen = openScreen(out, keyboard);
  expect([keyboard.raw, written[0]]).toEqual([true, '\x1b[?1049h\x1b[?25l']);
  screen[Symbol.dispose]();
  expect([keyboard.raw, written.at(-1)]).toEqual([false, '\x1b[?25h\x1b[?1049l']);
  expect(keyboard.listenerCount('data')).toBe(0);
});

it('shows the lines that fit, over those that were there', () => {
  const { written, keyboard, out } = terminal();
  using screen = openScreen(out, keyboard);
  screen.draw(['one', 'two', 'three', 'four', 'five']);
  expect(written.at(-1)).toBe('\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\nthree\x1b[K\r\n\x1b[J');
  expect(screen.width).toBe(40);
});

it('is left with q and with Ctrl-C, and with no other key', () => {
  for (const [keys, left] of [
    ['x', false],
    ['q', true],
    ['\x03', true],
  ] as const) {
    const { keyboard, out } = terminal();
    using screen = openScreen(out, keyboard);
    keyboard.emit('data', Buffer.from(keys));
    expect(screen.left.aborted).toBe(left);
  }
});
