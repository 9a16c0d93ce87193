import { formatBytes, formatCount, formatDuration } from './format.ts';
import { cutTo, displayWidth } from './table.ts';

/** How far long work is. Totals are absent while they are not known. */
export interface ProgressState {
  readonly phase: string;
  readonly files: number;
  readonly bytes: number;
  readonly totalFiles?: number;
  readonly totalBytes?: number;
}

/** What a bar is drawn on: a terminal. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Progress extends Disposable {
  /** Whether anyone sees it: what it takes to know more is not worth it otherwise. */
  readonly visible: boolean;
  update(state: ProgressState): void;
  /** Takes the bar off the terminal until the next update, so that a line can be printed. */
  erase(): void;
}

const SILENT: Progress = { visible: false, update() {}, erase() {}, [Symbol.dispose]() {} };

/** Between two drawings, in milliseconds: what an eye follows. */
const INTERVAL = 100;
/** Work that ends sooner than this shows no bar at all. */
const PATIENCE = 300;

/**
 * One line at the bottom of a terminal, drawn at most ten times a second and erased at the end. Where `terminal` is none, nothing
 * is ever written.
 */
export function createProgress(terminal: Terminal, now: () => number = () => performance.now()): Progress {
  if (!terminal.isTTY) return SILENT;
  let rate = createRate();
  let phase: string | undefined;
  let due = now() + PATIENCE;
  let drawn = false;
  const erase = () => {
    if (!drawn) return;
    terminal.write('\r\x1b[K');
    drawn = false;
    due = now();
  };
  return {
    visible: true,
    update(state) {
      const time = now();
      if (state.phase !== phase) {
        phase = state.phase;
        rate = createRate();
      }
      if (time < due) return;
      due = time + INTERVAL;
      const speed = rate(time, state);
      terminal.write(`\r${progressLine(state, speed, (terminal.columns ?? 80) - 1)}\x1b[K`);
      drawn = true;
    },
    erase,
    [Symbol.dispose]: erase,
  };
}

/** Per second. */
export interface Speed {
  readonly files: number;
  readonly bytes: number;
}

/** The speed over the last five seconds or so; undefined until there is a span to measure. */
function createRate(): (time: number, state: ProgressState) => Speed | undefined {
  const samples: { time: number; files: number; bytes: number }[] = [];
  return (time, state) => {
    samples.push({ time, files: state.files, bytes: state.bytes });
    while (samples.length > 2 && time - samples[1]!.time > 5000) samples.shift();
    const first = samples[0]!;
    const seconds = (time - first.time) / 1000;
    if (seconds < 1) return undefined;
    return { files: (state.files - first.files) / seconds, bytes: (state.bytes - first.bytes) / seconds };
  };
}

/** `Importing [#####-----] 51%  1,930/3,778 files  21.4/42.0 MiB  120 MiB/s  0.2 s left`, cut to `width` columns. */
export function progressLine(state: ProgressState, speed: Speed | undefined, width: number): string {
  const share = shareDone(state);
  const parts: string[] = [];
  if (state.files > 0 || state.totalFiles !== undefined) {
    const total = state.totalFiles === undefined ? '' : `/${formatCount(state.totalFiles)}`;
    parts.push(`${formatCount(state.files)}${total} files`);
  }
  if (state.bytes > 0 || state.totalBytes !== undefined) {
    parts.push(
      state.totalBytes === undefined
        ? formatBytes(state.bytes)
        : `${formatBytes(state.bytes)} of ${formatBytes(state.totalBytes)}`,
    );
  }
  if (speed !== undefined) {
    parts.push(speed.bytes > 0 ? `${formatBytes(speed.bytes)}/s` : `${formatCount(speed.files)} files/s`);
    const left = secondsLeft(state, speed);
    if (left !== undefined) parts.push(`${formatTimeLeft(left)} left`);
  }
  const percent = share === undefined ? '' : `${Math.floor(share * 100)}%`.padStart(4);
  const text = `${percent}${percent && parts.length > 0 ? '  ' : ''}${parts.join('  ')}`;
  const room = width - displayWidth(state.phase) - displayWidth(text) - 4;
  const bar = share === undefined || room < 10 ? ' ' : ` ${drawBar(share, Math.min(room, 30))}`;
  return cutTo(`${state.phase}${bar}${text}`, width);
}

/** Whole seconds are all that a guess is good for. */
function formatTimeLeft(seconds: number): string {
  return seconds < 60 ? `${Math.max(1, Math.ceil(seconds))} s` : formatDuration(Math.ceil(seconds) * 1000);
}

function drawBar(share: number, width: number): string {
  const full = Math.round(share * width);
  return `[${'#'.repeat(full)}${'-'.repeat(width - full)}]`;
}

function shareDone(state: ProgressState): number | undefined {
  const [done, total] =
    state.totalBytes !== undefined && state.totalBytes > 0
      ? [state.bytes, state.totalBytes]
      : [state.files, state.totalFiles];
  return total === undefined || total === 0 ? undefined : Math.min(1, done / total);
}

function secondsLeft(state: ProgressState, speed: Speed): number | undefined {
  if (state.totalBytes !== undefined && speed.bytes > 0) return (state.totalBytes - state.bytes) / speed.bytes;
  if (state.totalFiles !== undefined && speed.files > 0) return (state.totalFiles - state.files) / speed.files;
  return undefined;
}
