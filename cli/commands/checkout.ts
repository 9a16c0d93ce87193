import { resolve } from 'node:path';
import type { Command } from 'commander';
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
    .option(
      '-f, --force',
      'also into a directory with something in it: what stands in the way is replaced, the rest stays',
    )
    .action(async (name: string, dir: string, options: { readonly force?: boolean }, command: Command) => {
      const session = start(command);
      const { checkout } = await import('../../dataset/checkout.ts');
      const { output, signal } = session;
      const repository = await session.openRepository();
      const { dataset, version } = await resolveName(repository, name);
      const { root } = await readVersion(repository, version, signal);
      const directory = resolve(dir);
      const began = performance.now();
      using progress = output.progress();
      const { files, bytes } = await checkout(repository, root, directory, {
        force: options.force === true,
        onProgress: (state) => progress.update({ ...state, phase: 'Checking out' }),
        onWarning: (text) => output.warn(text),
        signal,
      });
      progress.erase();
      const milliseconds = Math.round(performance.now() - began);
      output.document({ dataset, version, directory, entries: files, bytes, milliseconds });
      output.line(
        `${dataset}@${shortId(version)} is in ${directory}: ${formatNumberOf(files, 'entry', 'entries')}, ${formatBytes(bytes)} in ${formatDuration(milliseconds)}`,
      );
    });
  withExamples(command, [
    ['checkout emoji ./emoji', 'A copy of the head of main'],
    ['checkout emoji@v15 ./emoji-15', 'A copy of a tag'],
  ]);
}
