import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { PREFETCH_CHOICES, parsePrefetch } from '../../controller/prefetch.ts';
import { shortId } from '../../dataset/digest.ts';
import { isErrno, NotFoundError } from '../../dataset/errors.ts';
import { bytesOption } from '../arguments.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { requireMountRights } from '../mount-rights.ts';
import { withNode } from '../node.ts';
import type { Start } from '../session.ts';

interface Options {
  readonly workspace?: boolean;
  readonly capacity?: number;
  readonly prefetch?: string;
}

/** `larder mount` */
export function addMount(program: Command, start: Start): void {
  const command = program
    .command('mount')
    .summary('mount a version on a directory')
    .description(
      "Mounts a version on DIR, where it reads like a local disk. Starts the node's daemon and its keeper where none runs. Needs root; 'larder checkout' makes a plain copy without it.",
    )
    .argument('<name>', NAME_HELP)
    .argument('<dir>', 'the directory to mount on; made where it is not there')
    .option('-w, --workspace', 'writable: changes stay apart from the version, and a snapshot commits them')
    .option('--capacity <size>', "a workspace's room for changes, such as 20G", bytesOption)
    .option('--prefetch <what>', `fetch in the background: ${PREFETCH_CHOICES}`, 'none')
    .action(async (name: string, dir: string, options: Options, command: Command) => {
      const session = start(command);
      const prefetch = parsePrefetch(options.prefetch ?? 'none', '--prefetch');
      requireMountRights();
      const directory = await ensureDirectory(dir);
      const workspace = options.workspace || options.capacity !== undefined;
      const mounted = await withNode(session, { start: true, phase: `Mounting ${name}` }, (call) =>
        call('mount', {
          repository: session.environment.repository,
          name,
          directory,
          ...(prefetch !== undefined && { prefetch }),
          ...(workspace && { workspace: { capacityBytes: options.capacity } }),
        }),
      );
      session.output.document(mounted);
      session.output.line(
        `${mounted.dataset}@${shortId(mounted.version)} is mounted on ${mounted.directory}${mounted.kind === 'workspace' ? ', writable' : ''}`,
      );
    });
  withExamples(command, [
    ['mount emoji /data/emoji', 'Mount the head of main'],
    ['mount emoji@v15 /data/emoji-15', 'Mount a tag beside it'],
    ['mount emoji /data/emoji --prefetch all', 'Mount it, and fetch all of it in the background'],
    ['mount emoji /data/work --workspace --capacity 20G', 'Mount it writable, with room for 20 GiB of changes'],
  ]);
}

/** The absolute path of `dir`, made where only its last component is missing. */
export async function ensureDirectory(dir: string): Promise<string> {
  const directory = resolve(dir);
  await mkdir(directory).catch((error) => {
    if (isErrno(error, 'EEXIST')) return;
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new NotFoundError(`there is no directory ${dirname(directory)} to make ${directory} in`, {
      cause: error,
      facts: { directory },
    });
  });
  return directory;
}
