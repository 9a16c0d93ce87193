import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeMixed } from './corpus.ts';
import { dropCaches, freshXfs } from './filesystem.ts';
import { benchImportS3 } from './import-s3.ts';
import { larderIn } from './larder.ts';
import { type Measured, measure } from './measure.ts';
import type { Report, Row } from './report.ts';

interface Rival {
  readonly name: string;
  prepare(): Promise<unknown>;
  first(): Promise<Measured>;
  again(): Promise<Measured>;
  restore(target: string): Promise<Measured>;
}

export interface ImportOptions {
  /** Of the tree. */
  readonly bytes: number;
  /** With repositories in buckets of an S3 server instead of on the same disk. */
  readonly s3: boolean;
}

/** The import and its way back, beside `cp -a`, restic and borg on the same tree; or beside others that keep it in S3. */
export async function benchImport(scratch: string, options: ImportOptions): Promise<Report> {
  using filesystem = freshXfs(scratch, 'import', 24);
  const at = (name: string) => join(filesystem.directory, name);
  const source = at('source');
  mkdirSync(source);
  writeMixed(source, options.bytes);
  const bytes = treeBytes(source);
  if (options.s3) return await benchImportS3(filesystem.directory, source, bytes);
  await using larder = larderIn(filesystem.directory);

  const environment = {
    RESTIC_PASSWORD: 'bench',
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    BORG_CACHE_DIR: at('borg-cache'),
  };
  const borgArchive = { number: 0 };
  const ours: Rival = {
    name: 'Larder',
    prepare: () => larder.run('repository', 'init'),
    first: () => larder.run('import', source, 'mixed'),
    again: () => larder.run('import', source, 'mixed'),
    restore: (target) => larder.run('checkout', 'mixed', target),
  };
  const rivals: Rival[] = [
    {
      name: 'cp -a',
      prepare: async () => {},
      first: () => measure(['cp', '-a', '--reflink=never', source, at('copy')]),
      again: () => measure(['cp', '-a', '--update', source, at('copy')]),
      restore: (target) => measure(['cp', '-a', '--reflink=never', at('copy'), target]),
    },
    {
      name: 'restic',
      prepare: () =>
        measure(['restic', '-r', at('restic'), '--cache-dir', at('restic-cache'), 'init'], { environment }),
      first: () =>
        measure(['restic', '-r', at('restic'), '--cache-dir', at('restic-cache'), '-q', 'backup', source], {
          environment,
        }),
      again: () =>
        measure(['restic', '-r', at('restic'), '--cache-dir', at('restic-cache'), '-q', 'backup', source], {
          environment,
        }),
      restore: (target) =>
        measure(
          [
            'restic',
            '-r',
            at('restic'),
            '--cache-dir',
            at('restic-cache'),
            '-q',
            'restore',
            'latest',
            '--target',
            target,
          ],
          { environment },
        ),
    },
    {
      name: 'borg',
      prepare: () => measure(['borg', 'init', '-e', 'none', at('borg')], { environment }),
      first: () => measure(['borg', 'create', `${at('borg')}::${borgArchive.number++}`, source], { environment }),
      again: () => measure(['borg', 'create', `${at('borg')}::${borgArchive.number++}`, source], { environment }),
      restore: (target) => {
        mkdirSync(target);
        return measure(['borg', 'extract', `${at('borg')}::0`], { cwd: target, environment });
      },
    },
  ];

  const rows: Row[] = [];
  const results = new Map<string, { first: Measured; again: Measured; restore: Measured }>();
  for (const system of [ours, ...rivals]) {
    await system.prepare();
    dropCaches();
    const first = await system.first();
    const again = await system.again();
    dropCaches();
    const restore = await system.restore(at('restored'));
    rmSync(at('restored'), { recursive: true });
    results.set(system.name, { first, again, restore });
  }
  const mine = results.get('Larder')!;
  const goals: Record<string, { first?: number; again?: number; restore?: number }> = {
    'cp -a': {},
    restic: { first: 3, again: 1, restore: 3 },
    borg: { first: 1 },
  };
  const steps = {
    first: `import of ${Math.round(bytes / 1e6).toLocaleString('en-US')} MB`,
    again: 'the same again, unchanged',
    restore: 'checkout whole',
  } as const;
  for (const step of ['first', 'again', 'restore'] as const) {
    for (const { name } of rivals) {
      const theirs = results.get(name)!;
      const goal = goals[name]?.[step];
      rows.push({
        what: steps[step],
        larder:
          step === 'again'
            ? `${mine[step].seconds.toFixed(2)} s`
            : `${Math.round(bytes / 1e6 / mine[step].seconds)} MB/s`,
        rival:
          step === 'again'
            ? `${theirs[step].seconds.toFixed(2)} s`
            : `${Math.round(bytes / 1e6 / theirs[step].seconds)} MB/s`,
        rivalName: name,
        value: theirs[step].seconds / mine[step].seconds,
        goal: goal === undefined ? undefined : { atLeast: goal },
      });
    }
  }
  for (const name of results.keys()) {
    rows.push({
      what: `${name}, resident in import`,
      larder: '',
      value: results.get(name)!.first.residentBytes / 1e6,
      unit: 'MB',
      goal: name === 'Larder' ? { atMost: 300 } : undefined,
    });
  }
  return { rows };
}

function treeBytes(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}
