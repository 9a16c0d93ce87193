import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { parseMeta } from '../../dataset/meta.ts';
import { deleteTag, listDatasets, listTags, parseDatasetName } from '../../dataset/refs.ts';
import type { MountedVolume } from '../../node/protocol.ts';
import { bytesOption, collectOption } from '../arguments.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { requireMountRights } from '../mount-rights.ts';
import { printNames, requireDataset, requireTag } from '../names.ts';
import { withNode } from '../node.ts';
import type { Session, Start } from '../session.ts';
import { ensureDirectory } from './mount.ts';

/** Snapshots that nobody named are tags that begin so. */
const PREFIX = 'snapshot-';

/** `larder snapshot …` */
export function addSnapshot(program: Command, start: Start): void {
  const snapshot = program
    .command('snapshot')
    .summary('keep the state of a workspace')
    .description('Makes versions of workspaces as they stand, and workspaces of them again.');
  addCreate(snapshot, start);
  addList(snapshot, start);
  addRestore(snapshot, start);
  addDelete(snapshot, start);
  withExamples(snapshot, [
    ["snapshot create /data/work -m 'labels cleaned'", 'Keep a workspace as it stands'],
    ['snapshot list emoji', 'What was kept'],
  ]);
}

interface CreateOptions {
  readonly message?: string;
  readonly tag?: string;
  readonly branch?: string;
  readonly author?: string;
  readonly meta?: readonly string[];
}

function addCreate(parent: Command, start: Start): void {
  const command = parent
    .command('create')
    .description(
      'Makes a version of a workspace as it stands, and prints its id. Programs go on writing: they wait for milliseconds only. Reads what changed and nothing else.',
    )
    .argument('<dir>', 'where the workspace is mounted')
    .option('-m, --message <text>', 'what the version is')
    .option('-t, --tag <tag>', `its name; ${PREFIX} and the time without one`)
    .option('-b, --branch <branch>', 'also move this branch to it, if nobody else moved it meanwhile')
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option('--meta <key=value>', 'metadata of the version, may be given several times', collectOption)
    .action(async (dir: string, options: CreateOptions, command: Command) => {
      const session = start(command);
      const { output, environment } = session;
      const tag = options.tag ?? PREFIX + new Date().toISOString().replace(/[-:]/g, '');
      const meta = parseMeta(options.meta ?? []);
      const reply = await withNode(session, { start: false, phase: 'Snapshot' }, (call) =>
        call('snapshot', {
          directory: resolve(dir),
          message: options.message ?? '',
          author: options.author ?? environment.author,
          tag,
          meta,
          ...(options.branch !== undefined && { branch: options.branch }),
        }),
      );
      output.document({ ...reply, tag, branch: options.branch });
      output.line(reply.version);
      const names = [tag, options.branch].filter((name) => name !== undefined).join(' and ');
      output.line(
        `${reply.dataset}@${names}: ${formatNumberOf(reply.filesRead, 'file')} and ${formatBytes(reply.bytesRead)} read, on version ${shortId(reply.parent)}; writers waited ${formatDuration(reply.pauseMilliseconds)}`,
      );
      if (!reply.reflink) {
        output.warn("the cache's file system has no reflink: the changes were copied while writers waited");
      }
    });
  withExamples(command, [
    ["snapshot create /data/work -m 'labels cleaned'", 'Keep a workspace as it stands'],
    ['snapshot create /data/work --branch main', 'Let it be the head of main'],
  ]);
}

function addList(parent: Command, start: Start): void {
  const command = parent
    .command('list')
    .description(`Lists snapshots: tags that begin with '${PREFIX}'.`)
    .argument('[dataset]', 'only those of one dataset, or of the one mounted on a directory (/dir or ./dir)')
    .action(async (which: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const datasets =
        which === undefined
          ? await listDatasets(repository)
          : [isPath(which) ? await datasetAt(session, which) : which];
      if (which !== undefined) await requireDataset(repository, datasets[0]!);
      const snapshots = [];
      for (const dataset of datasets) {
        for (const tag of await listTags(repository, dataset)) {
          if (tag.name.startsWith(PREFIX)) snapshots.push({ dataset, ...tag });
        }
      }
      await printNames(session, repository, 'snapshot', snapshots);
    });
  withExamples(command, [
    ['snapshot list', 'All of the repository'],
    ['snapshot list emoji', "One dataset's"],
  ]);
}

/** No dataset's name begins like a path that says where it is. */
function isPath(text: string): boolean {
  return text.startsWith('/') || text.startsWith('.');
}

async function datasetAt(session: Session, dir: string): Promise<string> {
  const directory = await realpath(dir).catch(() => resolve(dir));
  const { volumes } = await withNode(session, { start: false, phase: 'Asking' }, (call) => call('status', {}));
  const volume = volumes.find((each: MountedVolume) => each.directory === directory);
  if (volume !== undefined) return volume.dataset;
  throw new NotFoundError(`nothing of larder's is mounted on ${directory}: 'larder status' lists what is`, {
    facts: { directory },
  });
}

function addRestore(parent: Command, start: Start): void {
  const command = parent
    .command('restore')
    .description('Mounts a new workspace that begins as the snapshot.')
    .argument('<name>', 'NAME@TAG')
    .argument('<dir>', 'the directory to mount on; made where it is not there')
    .option('--capacity <size>', "the workspace's room for changes, such as 20G", bytesOption)
    .action(async (name: string, dir: string, options: { readonly capacity?: number }, command: Command) => {
      const session = start(command);
      requireMountRights();
      const directory = await ensureDirectory(dir);
      const mounted = await withNode(session, { start: true, phase: `Mounting ${name}` }, (call) =>
        call('mount', {
          repository: session.environment.repository,
          name,
          directory,
          workspace: { capacityBytes: options.capacity },
        }),
      );
      session.output.document(mounted);
      session.output.line(
        `${mounted.dataset}@${shortId(mounted.version)} is mounted on ${mounted.directory}, writable`,
      );
    });
  withExamples(command, [
    ['snapshot restore emoji@snapshot-20261125T160534.120Z /data/again', 'Go on from what was kept'],
  ]);
}

function addDelete(parent: Command, start: Start): void {
  const command = parent
    .command('delete')
    .description("Removes a snapshot's name. The version stays as long as another name leads to it.")
    .argument('<name>', 'NAME@TAG')
    .action(async (name: string, _options: object, command: Command) => {
      const session = start(command);
      const { dataset, ref: tag } = parseDatasetName(name);
      if (tag === undefined) throw new InvalidError(`'${name}' names no snapshot: give NAME@TAG`);
      const repository = await session.openRepository();
      await requireTag(repository, dataset, tag);
      await deleteTag(repository, dataset, tag);
      session.output.document({ dataset, tag, deleted: true });
      session.output.line(`snapshot ${dataset}@${tag} is gone`);
    });
  withExamples(command, [['snapshot delete emoji@snapshot-20261125T160534.120Z', 'Forget one']]);
}
