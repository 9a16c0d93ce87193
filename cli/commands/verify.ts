import type { Command } from 'commander';
import { CorruptError } from '../../dataset/errors.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import type { Start } from '../session.ts';

/** `larder verify` */
export function addVerify(program: Command, start: Start): void {
  const command = program
    .command('verify')
    .summary('check the repository')
    .description(
      'Checks that every object of the repository is there, whole and well-formed. With --deep, reads every byte back. Each damaged or missing object is named, with the files that it affects; the exit status is then 5.',
    )
    .option('-d, --deep', 'read every byte back')
    .action(async (options: { readonly deep?: boolean }, command: Command) => {});
  withExamples(command, [
    ['verify', 'Check structure, presence and lengths'],
    ['verify --deep', 'Read everything back'],
    ['verify --json', 'Damage as documents'],
  ]);
}
