import type { Command } from 'commander';
import { textOf } from '../../dataset/byte-string.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { Affected, Damage } from '../../dataset/verify.ts';
import { formatBytes, formatCount, formatDuration, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { bytesFields, type Output } from '../output.ts';
import type { Start } from '../session.ts';

/** `larder verify` */
export function addVerify(program: Command, start: Start): void {
  const command = program
    .command('verify')
    .summary('check the repository')
    .description(
      'Checks that everything that branches and tags lead to is there, whole and well-formed. With --deep, reads every byte back. Each damaged or missing object is named, with the files that it affects; the exit status is then 5.',
    )
    .option('-d, --deep', 'read every byte back')
    .action(async (options: { readonly deep?: boolean }, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const deep = options.deep === true;
      const repository = await session.openRepository();
      const { verifyRepository } = await import('../../dataset/verify.ts');
      const began = performance.now();
      const found = { damaged: 0, missing: 0 };
      let done = { files: 0, bytes: 0 };
      using progress = output.progress();
      const onProgress = (state: { phase: string; files: number; bytes: number; totalBytes?: number }) => {
        done = state;
        // While entries are checked, the bytes are all read, or none are.
        if (state.phase === 'reading packs') progress.update({ ...state, phase: 'Reading' });
        else progress.update({ phase: 'Checking', files: state.files, bytes: 0 });
      };
      for await (const damage of verifyRepository(repository, { deep, onProgress, signal })) {
        found[damage.kind] += 1;
        printDamage(output, damage);
      }
      progress.erase();
      const milliseconds = Math.round(performance.now() - began);
      const { files: entries, bytes } = done;
      output.document({ summary: { ...found, deep, entries, bytes, milliseconds } });
      const read = deep ? `, ${formatBytes(bytes)} read` : '';
      const checked = `${formatNumberOf(entries, 'entry', 'entries')} checked${read} in ${formatDuration(milliseconds)}`;
      const bad = found.damaged + found.missing;
      if (bad === 0) {
        output.line(`${checked}: nothing is damaged or missing`);
        return;
      }
      output.line(checked);
      throw new CorruptError(
        `${formatNumberOf(bad, 'object')} damaged or missing in ${repository.location}: put them back from a copy of the repository`,
        { facts: found },
      );
    });
  withExamples(command, [
    ['verify', 'Check structure, presence and lengths'],
    ['verify --deep', 'Read everything back'],
    ['verify --json', 'Damage as documents'],
  ]);
}

function printDamage(output: Output, { object, kind, fault, affected, affectedCount }: Damage): void {
  output.document({ object, kind, fault, affected: affected.map(affectedDocument), affectedCount });
  const said = kind === 'missing' ? '' : `: ${fault}`;
  output.line(`${output.style('red', `${kind} ${object}`)}${said}`);
  if (affectedCount === 0) output.line('  nothing needs it');
  for (const { dataset, ref, path } of affected) {
    output.line(`  ${dataset}@${ref}  ${path === undefined ? 'all of it' : textOf(path)}`);
  }
  const more = affectedCount - affected.length;
  if (more > 0) output.line(`  and ${formatCount(more)} more`);
}

function affectedDocument({ dataset, ref, version, path }: Affected): object {
  return { dataset, ref, version, ...(path !== undefined && bytesFields('path', path)) };
}
