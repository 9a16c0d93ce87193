import type { Command } from 'commander';
import { CorruptError } from '../../dataset/errors.ts';
import { printDamage } from '../damage.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Start } from '../session.ts';

/** `larder verify` */
export function addVerify(program: Command, start: Start): void {
  const command = program
    .command('verify')
    .summary('check the repository')
    .description(
      'Checks that everything that branches, tags, volumes and snapshots lead to is there and well-formed. With --deep, reads every byte back, and asks for every object in place whether it is still the same. Each damaged or missing object is named, with the files that it affects; the exit status is then 5.',
    )
    .argument('[names...]', `only these: ${NAME_HELP}`)
    .option('-d, --deep', 'read every byte back')
    .action(async (names: readonly string[], options: { readonly deep?: boolean }, command: Command) => {
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
      for await (const damage of verifyRepository(repository, {
        deep,
        ...(names.length > 0 && { names }),
        onProgress,
        signal,
      })) {
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
        `${formatNumberOf(bad, 'object')} damaged or missing in ${repository.location}: 'larder repair --from' puts them back from another repository that has them`,
        { facts: found },
      );
    });
  withExamples(command, [
    ['verify', 'Check structure, presence and lengths'],
    ['verify --deep', 'Read everything back'],
    ['verify emoji@v16 --deep', 'Only one version, and what led to it'],
    ['verify --json', 'Damage as documents'],
  ]);
}
