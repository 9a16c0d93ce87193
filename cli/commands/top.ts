import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { UnavailableError } from '../../dataset/errors.ts';
import type { NodeStats } from '../../node/protocol.ts';
import { countOption, periodOption } from '../arguments.ts';
import { withExamples } from '../help.ts';
import { type NodeCall, withNode } from '../node.ts';
import type { Session, Start } from '../session.ts';
import { topLines } from '../top/lines.ts';
import { type TopReport, topReport } from '../top/report.ts';
import { openScreen } from '../top/screen.ts';

interface TopOptions {
  readonly interval?: number;
  readonly count?: number;
}

/** Between two reports, in milliseconds. */
const INTERVAL = 2_000;

/** `larder top` */
export function addTop(program: Command, start: Start): void {
  const command = program
    .command('top')
    .summary('watch what the cache does')
    .description(
      "Shows what this node's daemon does, again and again: opens that wait, by dataset, bytes by where they come from, the queue. q or Ctrl-C ends it. What is cached is read without the daemon, and does not show. Not on a terminal, or with --json, it prints one report of one interval, or as many as --count says, or goes on where only --interval is given.",
    )
    .option(
      '-i, --interval <time>',
      'between two reports, such as 500ms or 10s (2s where it is not said)',
      periodOption,
    )
    .option('-n, --count <count>', 'end after so many reports', countOption)
    .action(async (options: TopOptions, command: Command) => {
      const session = start(command);
      const { output, screen } = session;
      await withNode(session, { start: false, phase: 'Asking' }, async (call) => {
        if (screen.terminal.isTTY && !output.json) await watch(session, call, options);
        else await print(session, call, options);
      });
    });
  withExamples(command, [
    ['top', 'Watch this node'],
    ['top --interval 10s --json', 'A document each ten seconds, for a program'],
    ['top --count 1', 'What it does now, once'],
  ]);
}

/** Lines or documents, one after the other. */
async function print({ output, signal }: Session, call: NodeCall, options: TopOptions): Promise<void> {
  const { interval = INTERVAL, count = options.interval === undefined ? 1 : Number.POSITIVE_INFINITY } = options;
  let before = await call('stats', {});
  for (let reports = 0; reports < count; reports += 1) {
    await sleep(interval, undefined, { signal });
    const now = await call('stats', {});
    const report = topReport(now, before);
    before = now;
    output.document(report);
    for (const line of reports === 0 ? topLines(report) : ['', ...topLines(report)]) output.line(line);
    await output.drain();
  }
}

/** The whole terminal, until somebody has seen enough. */
async function watch({ screen: { terminal, keyboard }, signal }: Session, call: NodeCall, options: TopOptions) {
  const { interval = INTERVAL, count = Number.POSITIVE_INFINITY } = options;
  using screen = openScreen(terminal, keyboard);
  const ended = AbortSignal.any([signal, screen.left]);
  let before: NodeStats | undefined;
  for (let reports = 0; reports < count && !ended.aborted; reports += 1) {
    let report: TopReport | undefined;
    let problem = '';
    try {
      const now = await call('stats', {});
      report = topReport(now, before);
      before = now;
    } catch (error) {
      if (ended.aborted) return;
      // It may come back: the mounts are there.
      if (!(error instanceof UnavailableError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
      problem = `the daemon does not answer: ${(error as Error).message}`;
    }
    screen.draw(report === undefined ? [problem] : topLines(report, screen.width));
    await sleep(interval, undefined, { signal: ended }).catch(() => {});
  }
}
