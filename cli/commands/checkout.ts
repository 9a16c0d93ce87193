import { resolve } from 'node:path';
import type { Command } from 'commander';
import { checkout } from '../../dataset/checkout.ts';
import { shortId } from '../../dataset/digest.ts';
import { resolveName } from '../../dataset/refs.ts';
import { readVersion } from '../../dataset/version.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Start } from '../session.ts';

/** `larder checkout` */
export function addCheckout(program: Command, start: Start): void {
  const command = program
    .command('checkout')
    .summary('copy a version to a directory')
    .description(
      "Makes a plain copy of a version: every file with its mode, times, links and attributes (and its owner, for root). Needs no mount and no root; 'larder commit' takes it back.",
    )
    .argument('<name>', NAME_HELP)
    .argument('<dir>', 'a directory that is empty or not there')
    .action(async (name: string, dir: string, _options: object, command: Command) => {
      const session = start(command);
    });
  withExamples(command, [
    ['checkout emoji ./emoji', 'A copy of the head of main'],
    ['checkout emoji@v15 ./emoji-15', 'A copy of a tag'],
  ]);
}
