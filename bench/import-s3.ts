import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { shuffledFiles } from './corpus.ts';
import { type CountedS3, startCountedS3 } from './counted-s3.ts';
import { dropCaches } from './filesystem.ts';
import { larderIn } from './larder.ts';
import { type Measured, measure } from './measure.ts';
import { columns, type Report, type Row } from './report.ts';

/** Files changed before the third import. */
const CHANGED = 100;

/** A program that keeps versions of a directory in an S3 bucket. */
interface System extends AsyncDisposable {
  readonly name: string;
  prepare(): Promise<unknown>;
  store(): Promise<Measured>;
  /** Everything that was stored last. @returns where the source's tree is then */
  restore(target: string): Promise<{ readonly measured: Measured; readonly tree: string }>;
}

interface Place {
  /** A directory of the system's own, for its caches and state. */
  readonly directory: string;
  readonly source: string;
  readonly s3: CountedS3;
  /** A bucket of its own. */
  readonly bucket: string;
}

const steps = ['first import', 'unchanged', `${CHANGED} files changed`, 'restore whole'] as const;

interface Step {
  readonly seconds: number;
  readonly residentBytes: number;
  readonly requests: number;
  readonly sent: number;
  readonly received: number;
}

interface Result {
  readonly system: string;
  readonly steps: Readonly<Record<(typeof steps)[number], Step>>;
  readonly repositoryBytes: number;
}

/** Larder beside other programs, each with a bucket of the same S3 server, through one proxy that counts. */
export async function benchImportS3(parent: string, source: string, bytes: number): Promise<Report> {
  await using s3 = await startCountedS3(parent);
  const results: Result[] = [];
  for (const make of [larder, restic, kopia, dvc]) {
    const bucket = await s3.server.makeBucket();
    const directory = join(parent, bucket);
    mkdirSync(directory);
    await using system = make({ directory, source, s3, bucket });
    if (system === undefined) continue;
    await system.prepare();
    const step = async (run: () => Promise<Measured>): Promise<Step> => {
      s3.proxy.reset();
      const { seconds, residentBytes } = await run();
      const { requests, sent, received } = s3.proxy.total();
      return { seconds, residentBytes, requests, sent, received };
    };
    dropCaches();
    const first = await step(() => system.store());
    const unchanged = await step(() => system.store());
    for (const file of shuffledFiles(source).slice(0, CHANGED)) appendFileSync(file, `changed for ${system.name}\n`);
    const changed = await step(() => system.store());
    const repositoryBytes = diskBytes(join(s3.server.directory, bucket));
    dropCaches();
    const target = join(directory, 'restored');
    let tree = target;
    const restored = await step(async () => {
      const result = await system.restore(target);
      tree = result.tree;
      return result.measured;
    });
    execFileSync('diff', ['-rq', '--no-dereference', source, tree]);
    rmSync(directory, { recursive: true, force: true });
    results.push({
      system: system.name,
      steps: { 'first import': first, unchanged, [`${CHANGED} files changed`]: changed, 'restore whole': restored },
      repositoryBytes,
    });
    console.error(`bench: ${describe(results.at(-1)!).flat().join(', ')}`);
  }
  return {
    table: columns(
      ['system', 'step', 'time', 'of the tree', 'requests', 'sent', 'received', 'memory', 'repository'],
      results.flatMap(describe),
    ),
    rows: compare(results),
    figures: results,
  };

  function describe({ system, steps: taken, repositoryBytes }: Result): string[][] {
    return steps.map((name) => {
      const { seconds, residentBytes, requests, sent, received } = taken[name];
      return [
        system,
        name,
        `${seconds.toFixed(2)} s`,
        `${Math.round(bytes / 1e6 / seconds)} MB/s`,
        requests.toLocaleString('en-US'),
        `${(sent / 1e6).toFixed(1)} MB`,
        `${(received / 1e6).toFixed(1)} MB`,
        `${(residentBytes / 1e6).toFixed(0)} MB`,
        name === steps[2] ? `${(repositoryBytes / 1e6).toFixed(0)} MB` : '',
      ];
    });
  }
}

/** How many times as good Larder is as each of the others. */
function compare(results: readonly Result[]): Row[] {
  const [ours, ...others] = results as [Result, ...Result[]];
  return others.flatMap((theirs) => {
    const row = (what: string, figure: (of: Result) => number, unit: string, atLeast: number): Row => ({
      what: `S3: ${what}`,
      larder: `${figure(ours).toLocaleString('en-US', { maximumFractionDigits: 2 })} ${unit}`,
      rival: `${figure(theirs).toLocaleString('en-US', { maximumFractionDigits: 2 })} ${unit}`,
      rivalName: theirs.system,
      value: figure(theirs) / figure(ours),
      goal: { atLeast },
    });
    return [
      ...steps.map((name, i) => row(name, (of) => of.steps[name].seconds, 's', i === 0 ? 3 : 1)),
      ...steps.map((name) => row(`${name}, requests`, (of) => of.steps[name].requests, 'requests', 1)),
      row('the repository', (of) => of.repositoryBytes / 1e6, 'MB', 1),
    ];
  });
}

function larder({ directory, source, s3, bucket }: Place): System {
  const program = larderIn(directory, s3.proxy.location(s3.server.locationOf(bucket, 'larder')));
  return {
    name: 'Larder',
    prepare: () => program.run('repository', 'init'),
    store: () => program.run('import', source, 'mixed'),
    restore: async (target) => ({ measured: await program.run('checkout', 'mixed', target), tree: target }),
    [Symbol.asyncDispose]: async () => {},
  };
}

function restic({ directory, source, s3, bucket }: Place): System {
  const run = (...args: string[]) =>
    measure(
      [
        'restic',
        '-r',
        `s3:${s3.proxy.endpoint}/${bucket}/restic`,
        '--cache-dir',
        join(directory, 'cache'),
        '-q',
        ...args,
      ],
      { environment: { RESTIC_PASSWORD: 'bench', AWS_DEFAULT_REGION: 'us-east-1' } },
    );
  return {
    name: 'restic',
    prepare: () => run('init'),
    store: () => run('backup', source),
    restore: async (target) => ({
      measured: await run('restore', 'latest', '--target', target),
      tree: join(target, source),
    }),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Left out where it is not installed. */
function kopia({ directory, source, s3, bucket }: Place): System | undefined {
  const program = findProgram('kopia');
  if (program === undefined) return undefined;
  const { accessKey, secretKey } = s3.server.credentials;
  const run = (...args: string[]) =>
    measure([program, ...args, '--no-progress'], {
      environment: {
        KOPIA_PASSWORD: 'bench',
        KOPIA_CONFIG_PATH: join(directory, 'kopia.config'),
        KOPIA_CACHE_DIRECTORY: join(directory, 'cache'),
        KOPIA_LOG_DIR: join(directory, 'logs'),
        KOPIA_CHECK_FOR_UPDATES: 'false',
      },
    });
  return {
    name: 'kopia',
    prepare: () =>
      run(
        ...['repository', 'create', 's3', '--bucket', bucket, '--prefix', 'kopia/', '--disable-tls'],
        ...['--endpoint', new URL(s3.proxy.endpoint).host, '--region', 'us-east-1'],
        ...['--access-key', accessKey, '--secret-access-key', secretKey],
      ),
    store: () => run('snapshot', 'create', source),
    restore: async (target) => ({ measured: await run('restore', source, target), tree: target }),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Left out where it is not installed. It keeps whole files; a version is a small file that Git would keep. */
function dvc({ directory, source, s3, bucket }: Place): System | undefined {
  const program = findProgram('dvc');
  if (program === undefined) return undefined;
  const work = join(directory, 'work');
  const run = (...args: string[]) =>
    measure(args, { cwd: work, environment: { DVC_NO_ANALYTICS: '1', DVC_SITE_CACHE_DIR: join(directory, 'site') } });
  const together = (a: Measured, b: Measured): Measured => ({
    seconds: a.seconds + b.seconds,
    residentBytes: Math.max(a.residentBytes, b.residentBytes),
    stdout: '',
  });
  return {
    name: 'DVC',
    async prepare() {
      mkdirSync(work);
      await run(program, 'init', '--no-scm', '-q');
      await run(program, 'remote', 'add', '-q', '-d', 'bucket', `s3://${bucket}/dvc`);
      await run(program, 'remote', 'modify', '-q', 'bucket', 'endpointurl', s3.proxy.endpoint);
    },
    async store() {
      // It takes a directory inside its own workspace: a copy, which is not timed.
      await run('cp', '-a', '--update', `${source}/.`, join(work, 'data'));
      return together(await run(program, 'add', '-q', 'data'), await run(program, 'push', '-q'));
    },
    async restore() {
      rmSync(join(work, '.dvc', 'cache'), { recursive: true });
      rmSync(join(work, 'data'), { recursive: true });
      return { measured: await run(program, 'pull', '-q'), tree: join(work, 'data') };
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), join(homedir(), 'go', 'bin')];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

function diskBytes(directory: string): number {
  return Number(execFileSync('du', ['-sb', directory], { encoding: 'utf8' }).split('\t')[0]);
}
