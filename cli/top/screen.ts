import type { Terminal } from '../progress.ts';

/** Where keys come from: standard input. */
export interface Keyboard {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
  on(event: 'data', listener: (keys: Buffer) => void): unknown;
  removeListener(event: 'data', listener: (keys: Buffer) => void): unknown;
  resume(): unknown;
  pause(): unknown;
}

export interface Screen extends Disposable {
  /** Shows these lines and nothing else; what does not fit is left out. */
  draw(lines: readonly string[]): void;
  /** Aborted when somebody pressed `q` or Ctrl-C. */
  readonly left: AbortSignal;
  readonly width: number;
}

interface SizedTerminal extends Terminal {
  readonly rows?: number;
}

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const TO_LINE_END = '\x1b[K';
const TO_SCREEN_END = '\x1b[J';
const CONTROL_C = 3;

/** The whole of a terminal until disposed of; what was on it is back then. */
export function openScreen(terminal: SizedTerminal, keyboard: Keyboard): Screen {
  const leaving = new AbortController();
  const onKeys = (keys: Buffer) => {
    if (keys.includes(CONTROL_C) || /q/i.test(keys.toString('latin1'))) leaving.abort();
  };
  const raw = keyboard.isTTY === true;
  if (raw) {
    keyboard.setRawMode?.(true);
    keyboard.on('data', onKeys);
    keyboard.resume();
  }
  terminal.write(ENTER);
  return {
    left: leaving.signal,
    get width() {
      return terminal.columns ?? 80;
    },
    draw(lines) {
      const shown = lines.slice(0, (terminal.rows ?? 24) - 1);
      terminal.write(`${HOME}${shown.map((line) => `${line}${TO_LINE_END}\r\n`).join('')}${TO_SCREEN_END}`);
    },
    [Symbol.dispose]() {
      terminal.write(LEAVE);
      if (!raw) return;
      keyboard.removeListener('data', onKeys);
      keyboard.setRawMode?.(false);
      keyboard.pause();
    },
  };
}
