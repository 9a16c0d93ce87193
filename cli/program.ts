import { Command, CommanderError } from 'commander';
import { InvalidError, LarderError } from '../dataset/errors.ts';
import type { Logger } from '../node/log.ts';
import { addBranch } from './commands/branch.ts';
import { addCache } from './commands/cache.ts';
import { addCat } from './commands/cat.ts';
import { addCheckout } from './commands/checkout.ts';
import { addCollect } from './commands/collect.ts';
import { addCommit } from './commands/commit.ts';
import { addController } from './commands/controller.ts';
import { addCopy } from './commands/copy.ts';
import { addDelete } from './commands/delete.ts';
import { addDiff } from './commands/diff.ts';
import { addFiles } from './commands/files.ts';
import { addHistory } from './commands/history.ts';
import { addImport } from './commands/import.ts';
import { addKeeper } from './commands/keeper.ts';
import { addList } from './commands/list.ts';
import { addLog } from './commands/log.ts';
import { addMerge } from './commands/merge.ts';
import { addMount } from './commands/mount.ts';
import { addNode } from './commands/node.ts';
import { addPrefetch } from './commands/prefetch.ts';
import { addRepair } from './commands/repair.ts';
import { addRepository } from './commands/repository.ts';
import { addRevert } from './commands/revert.ts';
import { addShow } from './commands/show.ts';
import { addSnapshot } from './commands/snapshot.ts';
import { addStatus } from './commands/status.ts';
import { addTag } from './commands/tag.ts';
import { addTop } from './commands/top.ts';
import { addUnmount } from './commands/unmount.ts';
import { addVerify } from './commands/verify.ts';
import { EXIT, exitCodeOf } from './exit-code.ts';
import { pathOf } from './help.ts';
import { Interrupted } from './interrupt.ts';
import { createStart, type Host, type Start } from './session.ts';
import { larderVersion } from './version.ts';

/** Runs one command line. @returns the exit status */
export async function run(argv: readonly string[], host: Host): Promise<number> {
  const ends = new AsyncDisposableStack();
  let log: Logger | undefined;
  const onLog = (opened: Logger) => {
    log = opened;
  };
  try {
    try {
      await createProgram(createStart(host, ends, onLog), host).parseAsync([...argv], { from: 'user' });
    } finally {
      await ends.disposeAsync();
    }
    return EXIT.done;
  } catch (error) {
    // What an aborted call throws is the reason, wrapped or not: the user knows it already.
    const cause = host.signal.aborted ? (host.signal.reason as unknown) : error;
    if (log === undefined) report(cause, argv.includes('--json'), host);
    else log.error(cause instanceof Error ? cause.message : String(cause), { error: cause });
    return exitCodeOf(cause);
  }
}

/** The whole command line, parsed but not yet run. */
export function createProgram(start: Start, host: Pick<Host, 'stdout' | 'stderr'>): Command {
  const program = new Command('larder')
    .description(
      'Versions, volumes and a node-local cache for machine-learning datasets.\nA dataset is named NAME[@REF]: a branch, a tag or the start of a version id; without one, the head of main.',
    )
    .version(larderVersion(), '-V, --version', 'print the version of larder')
    .option('--repository <location>', 'where datasets are kept: a directory or s3://BUCKET/PREFIX (LARDER_REPOSITORY)')
    .option('--json', 'print one JSON document a line on stdout')
    .helpOption('-h, --help', 'print help')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      writeErr: (text) => host.stderr.write(text),
      // Reported once, with every other error.
      outputError: () => {},
    });

  program.commandsGroup('Repository:');
  addRepository(program, start);
  addVerify(program, start);
  addRepair(program, start);
  addCollect(program, start);
  addCopy(program, start);
  program.commandsGroup('Versions:');
  addImport(program, start);
  addCommit(program, start);
  addCheckout(program, start);
  addList(program, start);
  addLog(program, start);
  addShow(program, start);
  addFiles(program, start);
  addCat(program, start);
  addDiff(program, start);
  addHistory(program, start);
  addMerge(program, start);
  addRevert(program, start);
  program.commandsGroup('Names:');
  addTag(program, start);
  addBranch(program, start);
  addDelete(program, start);
  program.commandsGroup('Mounts and workspaces:');
  addMount(program, start);
  addUnmount(program, start);
  addSnapshot(program, start);
  addStatus(program, start);
  program.commandsGroup("The node's cache:");
  addPrefetch(program, start);
  addCache(program, start);
  addTop(program, start);
  program.commandsGroup('Daemons:');
  addNode(program, start);
  addController(program, start);
  addKeeper(program, start);
  program.commandsGroup('Help:').helpCommand('help [command]', 'print help for a command');
  for (const command of allCommands(program)) {
    if (command.commands.length > 0) command.helpCommand('help [command]', 'print help for a command');
    command.exitOverride((error) => {
      if (error.exitCode === 0 || error.code === 'commander.help') throw error;
      throw new InvalidError(error.message.replace(/^error: /, ''), { facts: { help: `${pathOf(command)} --help` } });
    });
  }
  return program;
}

function* allCommands(command: Command): Generator<Command> {
  yield command;
  for (const child of command.commands) yield* allCommands(child);
}

/** Says on stderr what went wrong; help that was printed is no failure to speak of. */
function report(error: unknown, json: boolean, host: Host): void {
  if (error instanceof CommanderError) return;
  const known = error instanceof LarderError || error instanceof Interrupted || hasCode(error);
  const message = error instanceof Error ? error.message : String(error);
  if (json) {
    const kind = error instanceof LarderError ? error.kind : error instanceof Interrupted ? 'interrupted' : 'failed';
    const facts = error instanceof LarderError ? error.facts : {};
    const document = { kind, message, exitStatus: exitCodeOf(error), facts };
    host.stderr.write(`${JSON.stringify({ error: document })}\n`);
    return;
  }
  host.stderr.write(`larder: ${message}\n`);
  if (error instanceof LarderError && typeof error.facts.help === 'string') {
    host.stderr.write(`See '${error.facts.help}'.\n`);
  }
  // An error that nobody thought of: its stack is what a report needs.
  if (!known && error instanceof Error) host.stderr.write(`${error.stack}\n`);
  if (host.env.LARDER_DEBUG && known && error instanceof Error) {
    for (let at: unknown = error; at instanceof Error; at = at.cause) host.stderr.write(`${at.stack}\n`);
  }
}

/** System errors say what happened by themselves. */
function hasCode(error: unknown): boolean {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string' && 'syscall' in error;
}
