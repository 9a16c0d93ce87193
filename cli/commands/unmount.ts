import { resolve } from 'node:path';
import type { Command } from 'commander';
import { NotFoundError } from '../../dataset/errors.ts';
import { withExamples } from '../help.ts';
import { withNode } from '../node.ts';
import type { Start } from '../session.ts';

/** `larder unmount` */
export function addUnmount(program: Command, start: Start): void {
  const command = program
    .command('unmount')
    .summary('take a mount off its directory')
    .description(
      "Takes a mount off its directory. A workspace's changes are kept: mounting the directory as a workspace again finds them.",
    )
    .argument('<dir>', 'where it is mounted')
    .option('--discard', "drop a workspace's changes for good")
    .action(async (dir: string, options: { readonly discard?: boolean }, command: Command) => {
      const session = start(command);
      const directory = resolve(dir);
      const reply = await withNode(session, { start: false, phase: 'Unmounting' }, (call) =>
        call('unmount', { directory, ...(options.discard && { discard: true }) }),
      );
      if (!reply.unmounted) {
        throw new NotFoundError(`nothing of larder's is mounted on ${directory}: 'larder status' lists what is`, {
          facts: { directory },
        });
      }
      session.output.document(reply);
      session.output.line(`${reply.directory} is unmounted`);
      if (reply.heldBy.length > 0) {
        session.output.warn(`still in use by ${reply.heldBy.join(', ')}: it goes when they let go`);
      }
    });
  withExamples(command, [
    ['unmount /data/emoji', 'Unmount'],
    ['unmount /data/work --discard', 'Unmount a workspace and drop its changes'],
  ]);
}
