import type { Command } from 'commander';
import { collectOption } from '../arguments.ts';
import { withExamples } from '../help.ts';
import type { ImportOptions } from '../import.ts';
import type { Start } from '../session.ts';

/** `larder import` */
export function addImport(program: Command, start: Start): void {
  const command = program
    .command('import')
    .summary('make a version from a directory, a tar file or a bucket')
    .description(
      'Makes a version from a directory, a tar archive or the objects of a bucket, and prints its id. Importing again stores only what changed, and nothing where nothing did. Files whose size, times and inode, or objects whose ETag, are those of the last import are not read again.',
    )
    .argument(
      '<source>',
      "a directory, a tar file (also with gzip or zstd), '-' for a tar on standard input, or s3://BUCKET/PREFIX",
    )
    .argument('<name>', 'a dataset, made where it is not there, and after @ a branch; main without one')
    .option('-m, --message <text>', 'what the version is')
    .option('-t, --tag <tag>', 'also name the version so')
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option(
      '--meta <key=value>',
      'metadata of the version, such as license=CC0; may be given several times',
      collectOption,
    )
    .option(
      '--from <name>',
      'a version that it was made from, as NAME[@REF]; may be given several times',
      collectOption,
    )
    .option('--in-place', 'refer to the objects of a bucket where they are, and copy nothing')
    .option('--expand', 'open tar archives (shards) into their members: a/b.tar becomes the directory a/b')
    .option('--checksum', 'read every file, also those that look unchanged')
    .action(async (source: string, name: string, options: ImportOptions, command: Command) => {
      const session = start(command);
      const { checkOptions, findSource, parseTarget, runImport } = await import('../import.ts');
      const target = parseTarget(name);
      const found = await findSource(source);
      checkOptions(found, options);
      await runImport(session, await session.openRepository(), found, target, options);
    });
  withExamples(command, [
    ["import ./emoji emoji -m 'release 16' --tag v16", 'A first version, or the next one'],
    ['import ./cleaned emoji@cleanup --from emoji', 'A version on a branch, and what it was made from'],
    ['import emoji-16.tar.gz emoji', 'From a tar archive'],
    ['import - emoji < emoji.tar', 'From standard input'],
    ["import 's3://photos/2026?region=eu-central-1' photos", "Copy a bucket's objects"],
    ['import s3://photos/2026 photos --in-place', 'Refer to them where they are'],
    ['import ./shards webdataset --expand', 'The samples in WebDataset shards, each shard a directory'],
    ['import ./emoji emoji --checksum', 'Trust no time stamp'],
  ]);
}
