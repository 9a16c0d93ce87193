import { Command, CommanderError } from 'commander';
import { InvalidError, LarderError } from '../dataset/errors.ts';
import type { Logger } from '../node/log.ts';
import { type Add, COMMANDS, wantedBy } from './commands.ts';
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
      const program = await createProgram(createStart(host, ends, onLog), host, wantedBy(argv));
      await program.parseAsync([...argv], { from: 'user' });
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

/**
 * The command line, not yet parsed.
 * @param isWanted which commands it has, and loads, by their names
 */
export async function createProgram(
  start: Start,
  host: Pick<Host, 'stdout' | 'stderr'>,
  isWanted: (name: string) => boolean = () => true,
): Promise<Command> {
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

  for (const [group, commands] of Object.entries(COMMANDS)) {
    const wanted = Object.entries(commands).filter(([name]) => isWanted(name));
    const adds = await Promise.all(wanted.map(([, load]): Promise<Add> => load()));
    program.commandsGroup(group);
    for (const add of adds) add(program, start);
  }
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
