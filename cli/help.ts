import type { Command } from 'commander';

/** A command line as it is typed, after `larder `, and what it does. */
export type Example = readonly [line: string, does: string];

/** Adds a section of examples to a command's help. */
export function withExamples(command: Command, examples: readonly Example[]): Command {
  const lines = examples.flatMap(([line, does]) => [`  # ${does}`, `  larder ${line}`, '']);
  return command.addHelpText('after', ['', 'Examples:', ...lines.slice(0, -1)].join('\n'));
}

/** What the argument that names a version may be. */
export const NAME_HELP =
  'a dataset, and after @ a branch, a tag or the start of a version id; the head of main without one';

/** The command as it is typed: `larder tag create`. */
export function pathOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
  return names.join(' ');
}
