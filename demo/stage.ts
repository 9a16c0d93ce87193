import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

/** What the demo shows on the terminal: numbered steps, the commands as a user would type them, and what they printed. */
const colour = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code: number) => (text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = paint(1);
export const dim = paint(2);
export const green = paint(32);
export const cyan = paint(36);

const program = resolve(import.meta.dirname, '..', 'bin', 'larder');
let steps = 0;

export function step(title: string): void {
  steps += 1;
  console.log(`\n${bold(`${steps}. ${title}`)}`);
}

export function say(text: string): void {
  console.log(`   ${text}`);
}

export interface LarderOptions {
  /** Lines of output to show; the rest is counted. */
  readonly show?: number;
  /** Kept from the terminal, for commands whose output is only needed by the demo. */
  readonly quiet?: boolean;
}

/** Runs `larder` with these arguments, shows the command and its output, and ends the demo where it fails. */
export function larder(args: readonly string[], options: LarderOptions = {}): string {
  if (!options.quiet) say(`${cyan('$ larder')} ${args.map(shellWord).join(' ')}`);
  const result = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) {
    throw new Error(`larder ${args.join(' ')} ended with ${result.status}: ${result.stderr}`);
  }
  if (!options.quiet) {
    const lines = result.stdout.trimEnd().split('\n');
    const shown = lines.slice(0, options.show ?? 16);
    const last = lines.length > shown.length ? lines.slice(-1) : [];
    for (const line of shown) say(dim(line));
    if (last.length > 0) say(dim(`… ${lines.length - shown.length - 1} more lines …`));
    for (const line of last) say(dim(line));
  }
  return result.stdout;
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
