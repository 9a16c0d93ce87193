import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { formatBytes, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { withNode } from '../node.ts';
import type { Start } from '../session.ts';

/** `larder prefetch` */
export function addPrefetch(program: Command, start: Start): void {
  const command = program
    .command('prefetch')
    .summary("bring a version into this node's cache")
    .description("Brings a version's files into this node's cache before anyone opens them.")
    .argument('<name>', NAME_HELP)
    .argument('[pattern]', 'a glob over paths; without one, every file')
    .action(async (name: string, pattern: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const began = performance.now();
      const reply = await withNode(session, { start: true, phase: 'Prefetching' }, (call) =>
        call('prefetch', {
          repository: session.environment.repository,
          name,
          ...(pattern !== undefined && { pattern }),
        }),
      );
      session.output.document({ ...reply, milliseconds: Math.round(performance.now() - began) });
      session.output.line(
        `${reply.dataset}@${shortId(reply.version)}: ${formatNumberOf(reply.files, 'file')}, ${formatBytes(reply.bytes)} in the cache`,
      );
    });
  withExamples(command, [
    ['prefetch emoji@v16', 'Fetch all of a version'],
    ["prefetch imagenet 'train/n01*/**'", 'Fetch a part of one'],
  ]);
}
