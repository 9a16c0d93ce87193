import type { Command } from 'commander';
import type { SpaceAmount } from '../../cache/space-limits.ts';
import { shortId } from '../../dataset/digest.ts';
import { CorruptError, InvalidError } from '../../dataset/errors.ts';
import type { CachedDataset, CachedVersion, CacheSpace } from '../../node/protocol.ts';
import { bytesOption, spaceOption } from '../arguments.ts';
import { formatBytes, formatCount, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { withNode } from '../node.ts';
import type { Start } from '../session.ts';
import { type Column, formatTable } from '../table.ts';

/** `larder cache …` */
export function addCache(program: Command, start: Start): void {
  const cache = program
    .command('cache')
    .summary("look after this node's cache")
    .description("Looks after this node's cache: shows it, keeps versions in it, frees room, checks it.");
  addShow(cache, start);
  addPin(cache, start);
  addUnpin(cache, start);
  addEvict(cache, start);
  addLimit(cache, start);
  addVerify(cache, start);
  withExamples(cache, [
    ['cache show', 'What the cache holds'],
    ['cache pin emoji@v16', 'Never evict a version'],
    ['cache evict 50G', 'Free 50 GiB'],
  ]);
}

function addShow(cache: Command, start: Start): void {
  const command = cache
    .command('show')
    .description('Shows what the cache holds, version by version.')
    .action(async (_options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const contents = await withNode(session, { start: false, phase: 'Asking' }, (call) => call('cache-show', {}));
      output.document(contents);
      output.line(
        `${contents.directory}: ${formatNumberOf(contents.objects, 'object')}, ${formatBytes(contents.bytes)}`,
      );
      output.line(spaceLine(contents));
      if (contents.unknownObjects > 0) {
        const { unknownObjects, unknownBytes } = contents;
        output.line(`${formatNumberOf(unknownObjects, 'object')}, ${formatBytes(unknownBytes)} of no known version`);
      }
      if (contents.versions.length === 0) return;
      output.line('');
      for (const line of formatTable(COLUMNS, contents.versions.map(versionRow))) output.line(line);
      if (contents.datasets.every(({ versions }) => versions === 1)) return;
      output.line('');
      for (const line of formatTable(DATASET_COLUMNS, contents.datasets.map(datasetRow))) output.line(line);
    });
  withExamples(command, [['cache show --json', "The cache's contents for a program"]]);
}

/** What limits the cache, and how much there is up to that. */
function spaceLine({ limit, minFree, held, room, diskFree }: CacheSpace): string {
  const bound = limit === undefined ? 'no limit' : `limit ${formatBytes(limit)}`;
  const left = room >= 0 ? `room for ${formatBytes(room)}` : `${formatBytes(-room)} too much`;
  return `${formatBytes(held)} on the disk, ${bound}, ${left}; ${formatBytes(diskFree)} of the disk free, ${formatBytes(minFree)} stay so`;
}

const COLUMNS: readonly Column[] = [
  { title: 'VERSION' },
  { title: 'FILES', align: 'right' },
  { title: 'CACHED', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'CACHED', align: 'right' },
  { title: 'ALONE', align: 'right' },
  { title: 'STATE' },
];

const DATASET_COLUMNS: readonly Column[] = [
  { title: 'DATASET' },
  { title: 'VERSIONS', align: 'right' },
  { title: 'FILES', align: 'right' },
  { title: 'CACHED', align: 'right' },
  { title: 'ALONE', align: 'right' },
  { title: 'SHARED', align: 'right' },
];

function datasetRow(dataset: CachedDataset): string[] {
  return [
    dataset.dataset,
    formatCount(dataset.versions),
    formatCount(dataset.cachedFiles),
    formatBytes(dataset.cachedBytes),
    formatBytes(dataset.aloneBytes),
    formatBytes(dataset.sharedBytes),
  ];
}

function versionRow(version: CachedVersion): string[] {
  const states = [version.staged && 'staged', version.pinned && 'pinned'].filter((state) => state !== false);
  return [
    `${version.dataset}@${shortId(version.version)}`,
    formatCount(version.files),
    formatCount(version.cachedFiles),
    formatBytes(version.bytes),
    formatBytes(version.cachedBytes),
    formatBytes(version.aloneBytes),
    states.join(', '),
  ];
}

function addPin(cache: Command, start: Start): void {
  const command = cache
    .command('pin')
    .description('Keeps a version: what is cached of it is never evicted.')
    .argument('<name>', NAME_HELP)
    .action(async (name: string, _options: object, command: Command) => {
      const session = start(command);
      const { repository } = session.environment;
      const reply = await withNode(session, { start: true, phase: 'Pinning' }, (call) =>
        call('cache-pin', { repository, name }),
      );
      session.output.document(reply);
      session.output.line(`${reply.dataset}@${shortId(reply.version)} is pinned`);
    });
  withExamples(command, [['cache pin emoji@v16', 'Never evict this version']]);
}

function addUnpin(cache: Command, start: Start): void {
  const command = cache
    .command('unpin')
    .description('Lets a pinned version be evicted again.')
    .argument('<name>', NAME_HELP)
    .action(async (name: string, _options: object, command: Command) => {
      const session = start(command);
      const { repository } = session.environment;
      const reply = await withNode(session, { start: true, phase: 'Unpinning' }, (call) =>
        call('cache-unpin', { repository, name }),
      );
      session.output.document(reply);
      session.output.line(`${reply.dataset}@${shortId(reply.version)} is no longer pinned`);
    });
  withExamples(command, [['cache unpin emoji@v16', 'Let this version go when room is needed']]);
}

interface EvictOptions {
  readonly dataset?: string;
  readonly only?: string;
  readonly mounted?: boolean;
  readonly dryRun?: boolean;
}

function addEvict(cache: Command, start: Start): void {
  const command = cache
    .command('evict')
    .description(
      'Frees room: versions that nothing has mounted go, the least recently mounted first. Pinned and mounted ones stay. Of a dataset or version that is named, what no other has goes.',
    )
    .argument('[size]', 'how much to free, such as 50G; without it, all that may go', bytesOption)
    .option('--dataset <name>', 'only of this dataset: all of its versions')
    .option('--only <name>', 'only of this version, NAME[@REF]')
    .option('--mounted', 'also of mounted versions: it is fetched again when it is read')
    .option('-n, --dry-run', 'say what would go, and leave it')
    .action(async (bytes: number | undefined, options: EvictOptions, command: Command) => {
      const session = start(command);
      const { repository } = session.environment;
      const { dataset, only, mounted = false, dryRun = false } = options;
      if (dataset !== undefined && only !== undefined) {
        throw new InvalidError('give --dataset or --only, not both');
      }
      const of =
        dataset !== undefined ? { repository, dataset } : only !== undefined ? { repository, name: only } : undefined;
      const reply = await withNode(session, { start: true, phase: 'Evicting' }, (call) =>
        call('cache-evict', { ...(bytes !== undefined && { bytes }), ...(of && { of }), mounted, dryRun }),
      );
      session.output.document({ ...reply, dryRun });
      session.output.line(
        `${dryRun ? 'would free' : 'freed'} ${formatBytes(reply.bytes)} in ${formatNumberOf(reply.objects, 'object')}`,
      );
    });
  withExamples(command, [
    ['cache evict --dry-run', 'See what could go'],
    ['cache evict 50G', 'Free 50 GiB'],
    ['cache evict --dataset emoji', 'Free what only the versions of one dataset have'],
    ['cache evict --only emoji@v15', 'Free what only this version has'],
  ]);
}

function addLimit(cache: Command, start: Start): void {
  const command = cache
    .command('limit')
    .description(
      "Sets how much the cache may take, until the node's daemon is started again: LARDER_CACHE_LIMIT and LARDER_CACHE_MIN_FREE say it from then on. Without anything, tells how much it is.",
    )
    .argument('[size]', "what the cache's directory may take: 500G, 80% of the disk, or none", limitArgument)
    .option('--min-free <size>', 'what stays free of the disk, whoever fills it: 20G, 5%', spaceOption)
    .action(
      async (
        limit: SpaceAmount | null | undefined,
        { minFree }: { readonly minFree?: SpaceAmount },
        command: Command,
      ) => {
        const session = start(command);
        const space = await withNode(session, { start: false, phase: 'Asking' }, (call) =>
          call('cache-limit', { ...(limit !== undefined && { limit }), ...(minFree && { minFree }) }),
        );
        session.output.document(space);
        session.output.line(spaceLine(space));
      },
    );
  withExamples(command, [
    ['cache limit', 'What limits the cache'],
    ['cache limit 80%', 'Four fifths of the disk'],
    ['cache limit none --min-free 50G', 'The disk alone, but for 50 GiB'],
  ]);
}

/** `none` is no limit. */
function limitArgument(text: string): SpaceAmount | null {
  return text === 'none' ? null : spaceOption(text);
}

function addVerify(cache: Command, start: Start): void {
  const command = cache
    .command('verify')
    .description(
      'Reads every cached object and compares it with its name. Damaged ones are removed, to be fetched again.',
    )
    .action(async (_options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const reply = await withNode(session, { start: true, phase: 'Verifying' }, (call) => call('cache-verify', {}));
      output.document(reply);
      for (const id of reply.damaged) output.line(`${output.style('red', 'damaged')} ${id}`);
      output.line(`${formatNumberOf(reply.objects, 'object')}, ${formatBytes(reply.bytes)} read`);
      if (reply.damaged.length > 0) {
        throw new CorruptError(`${formatNumberOf(reply.damaged.length, 'object')} of the cache damaged`, {
          facts: { damaged: reply.damaged.length },
        });
      }
    });
  withExamples(command, [['cache verify', 'Check every cached byte']]);
}
