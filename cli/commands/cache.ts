import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { CachedVersion } from '../../node/protocol.ts';
import { bytesOption } from '../arguments.ts';
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
      if (contents.versions.length === 0) return;
      output.line('');
      for (const line of formatTable(COLUMNS, contents.versions.map(versionRow))) output.line(line);
    });
  withExamples(command, [['cache show --json', "The cache's contents for a program"]]);
}

const COLUMNS: readonly Column[] = [
  { title: 'VERSION' },
  { title: 'FILES', align: 'right' },
  { title: 'CACHED', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'CACHED', align: 'right' },
  { title: 'STATE' },
];

function versionRow(version: CachedVersion): string[] {
  const states = [version.staged && 'staged', version.pinned && 'pinned'].filter((state) => state !== false);
  return [
    `${version.dataset}@${shortId(version.version)}`,
    formatCount(version.files),
    formatCount(version.cachedFiles),
    formatBytes(version.bytes),
    formatBytes(version.cachedBytes),
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

function addEvict(cache: Command, start: Start): void {
  const command = cache
    .command('evict')
    .description(
      'Frees room: versions that nothing has mounted go, the least recently mounted first. Pinned and mounted ones stay.',
    )
    .argument('[size]', 'how much to free, such as 50G; without it, all that may go', bytesOption)
    .option('-n, --dry-run', 'say what would go, and leave it')
    .action(async (bytes: number | undefined, options: { readonly dryRun?: boolean }, command: Command) => {
      const session = start(command);
      const dryRun = options.dryRun === true;
      const reply = await withNode(session, { start: true, phase: 'Evicting' }, (call) =>
        call('cache-evict', { ...(bytes !== undefined && { bytes }), dryRun }),
      );
      session.output.document({ ...reply, dryRun });
      session.output.line(
        `${dryRun ? 'would free' : 'freed'} ${formatBytes(reply.bytes)} in ${formatNumberOf(reply.objects, 'object')}`,
      );
    });
  withExamples(command, [
    ['cache evict --dry-run', 'See what could go'],
    ['cache evict 50G', 'Free 50 GiB'],
  ]);
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
