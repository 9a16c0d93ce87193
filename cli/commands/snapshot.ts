import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { createGroupSnapshot, deleteGroupSnapshot, readGroupSnapshot } from '../../controller/group-snapshots.ts';
import { groupRecords, type Snapshot } from '../../controller/snapshot.ts';
import { moveForward } from '../../controller/snapshot-names.ts';
import { contentOf, createSnapshot, deleteSnapshot } from '../../controller/snapshots.ts';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { parseMeta } from '../../dataset/meta.ts';
import { deleteTag, listDatasets, listTags, parseDatasetName, writeTag } from '../../dataset/refs.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { MountedVolume } from '../../node/protocol.ts';
import { bytesOption, collectOption } from '../arguments.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { requireMountRights } from '../mount-rights.ts';
import { printNames, requireDataset, requireTag } from '../names.ts';
import { withNode } from '../node.ts';
import type { Session, Start } from '../session.ts';
import {
  aboutSnapshot,
  findSnapshot,
  isSnapshotId,
  printSnapshots,
  requireSnapshot,
  snapshotContext,
  snapshotDocument,
  snapshotsOf,
  stateOf,
  untilReady,
} from '../volume-snapshots.ts';
import { findVolume, requireVolume } from '../volumes.ts';
import { ensureDirectory } from './mount.ts';

/** Snapshots that nobody named are tags that begin so. */
const PREFIX = 'snapshot-';

/** What the argument that names a snapshot of a volume may be. */
const ID_HELP = 'the id of a snapshot of a volume, the start of it, or the name that it was created under';

/** `larder snapshot …` */
export function addSnapshot(program: Command, start: Start): void {
  const snapshot = program
    .command('snapshot')
    .summary('keep the state of a workspace')
    .description(
      'Makes versions of workspaces as they stand, and workspaces of them again: of those that are mounted here, and of volumes of a cluster, wherever they are.',
    );
  addCreate(snapshot, start);
  addList(snapshot, start);
  addShow(snapshot, start);
  addBranch(snapshot, start);
  addTag(snapshot, start);
  addRestore(snapshot, start);
  addDelete(snapshot, start);
  withExamples(snapshot, [
    ["snapshot create /data/work -m 'labels cleaned'", 'Keep a workspace as it stands'],
    ['snapshot create pvc-0c5e2a', 'Keep a volume of a cluster as it stands'],
    ['snapshot list emoji', 'What was kept'],
  ]);
}

interface CreateOptions {
  readonly message?: string;
  readonly tag?: string;
  readonly branch?: string;
  readonly author?: string;
  readonly meta?: readonly string[];
  readonly name?: string;
  readonly wait: boolean;
}

function addCreate(parent: Command, start: Start): void {
  const command = parent
    .command('create')
    .description(
      'Makes a version of a workspace as it stands, and prints its id. Programs go on writing: they wait for milliseconds only. Reads what changed and nothing else. Several volumes are kept as they are at one moment.',
    )
    .argument(
      '<what...>',
      'the directory where a workspace is mounted (/dir or ./dir), or volumes of a cluster: their ids, or the names of their persistent volumes',
    )
    .option('-m, --message <text>', 'what the version is')
    .option('-t, --tag <tag>', `its name; of a directory's workspace ${PREFIX} and the time without one`)
    .option('-b, --branch <branch>', 'also move this branch to it, if nobody else moved it meanwhile')
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option('--meta <key=value>', 'metadata of the version, may be given several times', collectOption)
    .option('--name <name>', `of volumes: what the snapshot is created under; ${PREFIX} and the time without one`)
    .option('--no-wait', 'of volumes: do not wait until it is in the repository')
    .action(async (what: string[], options: CreateOptions, command: Command) => {
      const session = start(command);
      if (!what.some(isPath)) await createOfVolumes(session, what, options);
      else if (what.length === 1) await createOfDirectory(session, what[0]!, options);
      else
        throw new InvalidError(
          'one directory, or any number of volumes: several directories are snapshots of their own',
        );
    });
  withExamples(command, [
    ["snapshot create /data/work -m 'labels cleaned'", 'Keep a workspace as it stands'],
    ['snapshot create /data/work --branch main', 'Let it be the head of main'],
    ['snapshot create pvc-0c5e2a --tag before-cleaning', 'Keep a volume of a cluster, wherever it is mounted'],
    ['snapshot create pvc-0c5e2a pvc-91d3f7', 'Keep two as they are at one moment'],
  ]);
}

async function createOfDirectory(session: Session, dir: string, options: CreateOptions): Promise<void> {
  const { output, environment } = session;
  const tag = options.tag ?? timedName();
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
  if (!reply.reflink)
    output.warn("the cache's file system has no reflink: the changes were copied while writers waited");
}

async function createOfVolumes(session: Session, what: readonly string[], options: CreateOptions): Promise<void> {
  const { output, environment } = session;
  const { message, author = environment.author, tag, branch, name = timedName() } = options;
  const meta = options.meta && parseMeta(options.meta);
  const repository = await session.openRepository();
  const sources: string[] = [];
  for (const each of what)
    sources.push((await requireVolume(repository, each, ', or the directory of a workspace (/dir or ./dir)')).id);
  const words = Object.entries({ message, tag, branch }).filter(([, value]) => value !== undefined);
  const parameters: Record<string, string> = { ...Object.fromEntries(words), author };
  const context = snapshotContext(repository, session);
  using progress = output.progress();
  progress.update({ phase: 'Snapshot', files: 0, bytes: 0 });
  if (sources.length > 1) {
    if (meta !== undefined) throw new InvalidError('metadata is given to one snapshot at a time, not to a group');
    const group = await createGroupSnapshot(repository, { name, sources, parameters }, context);
    const snapshots: Snapshot[] = [];
    for (const each of group.snapshots)
      snapshots.push(options.wait ? await untilReady(repository, each.id, context) : each);
    output.document({ group: group.id, name, created: group.created, pauseMilliseconds: group.pauseMilliseconds });
    output.line(group.id);
    if (group.pauseMilliseconds !== undefined)
      output.line(`all of one moment; writers waited ${formatDuration(group.pauseMilliseconds)} at most`);
    printSnapshots(session, snapshots);
    return;
  }
  const source = sources[0] as string;
  const request = { name, source, parameters, ...(meta !== undefined && { meta }) };
  const cut = await createSnapshot(repository, request, context);
  const snapshot = options.wait ? await untilReady(repository, cut.id, context) : cut;
  output.document(snapshotDocument(snapshot));
  output.line(snapshot.id);
  const { pauseMilliseconds: pause } = snapshot;
  const waited = pause === undefined ? '' : `; writers waited ${formatDuration(pause)}`;
  const content = snapshot.version === undefined ? '' : `${snapshot.dataset}@${shortId(snapshot.version)}, `;
  output.line(`${content}${stateOf(snapshot)}${waited}`);
}

/** What is called so is told apart by the time. */
function timedName(): string {
  return PREFIX + new Date().toISOString().replace(/[-:]/g, '');
}

function addList(parent: Command, start: Start): void {
  const command = parent
    .command('list')
    .description(`Lists snapshots: tags that begin with '${PREFIX}', and snapshots of volumes.`)
    .argument(
      '[which]',
      'only those of one dataset, of the one mounted on a directory (/dir or ./dir), or of a volume (its id or name)',
    )
    .action(async (which: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const volume = which === undefined || isPath(which) ? undefined : await findVolume(repository, which);
      if (volume !== undefined) {
        printSnapshots(session, await snapshotsOf(repository, { source: volume.id }));
        return;
      }
      const dataset = which !== undefined && isPath(which) ? await datasetAt(session, which) : which;
      if (dataset !== undefined) await requireDataset(repository, dataset);
      const tags = [];
      for (const each of dataset === undefined ? await listDatasets(repository) : [dataset]) {
        for (const tag of await listTags(repository, each)) {
          if (tag.name.startsWith(PREFIX)) tags.push({ dataset: each, ...tag });
        }
      }
      const snapshots = await snapshotsOf(repository, { ...(dataset !== undefined && { dataset }) });
      await printNames(session, repository, 'snapshot', tags);
      if (tags.length > 0 && snapshots.length > 0) session.output.line('');
      printSnapshots(session, snapshots);
    });
  withExamples(command, [
    ['snapshot list', 'All of the repository'],
    ['snapshot list emoji', "One dataset's"],
    ['snapshot list pvc-0c5e2a', "One volume's"],
  ]);
}

function addShow(parent: Command, start: Start): void {
  const command = parent
    .command('show')
    .description('Tells what there is to know of a snapshot of a volume.')
    .argument('<snapshot>', ID_HELP)
    .action(async (id: string, _options: object, command: Command) => {
      const session = start(command);
      const snapshot = await requireSnapshot(await session.openRepository(), id);
      session.output.document(snapshotDocument(snapshot));
      for (const line of aboutSnapshot(snapshot)) session.output.line(line);
    });
  withExamples(command, [
    ['snapshot show snap-5f0c1d', 'By the start of its id'],
    ['snapshot show before-cleaning', 'By its name'],
  ]);
}

function addBranch(parent: Command, start: Start): void {
  const command = parent
    .command('branch')
    .description(
      "Lets a snapshot of a volume be the head of a branch of its dataset: one that is made for it, or that it follows on. Where others went on meanwhile, 'larder merge' brings the two together.",
    )
    .argument('<snapshot>', ID_HELP)
    .argument('<branch>', 'the branch')
    .action(async (id: string, branch: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const snapshot = await requireSnapshot(repository, id);
      const { dataset, version } = contentOf(snapshot);
      await moveForward(repository, dataset, branch, version);
      session.output.document({ snapshot: snapshot.id, dataset, branch, version });
      session.output.line(`${dataset}@${branch} is at version ${shortId(version)}`);
    });
  withExamples(command, [['snapshot branch snap-5f0c1d cleaned', 'Go on from it, beside main']]);
}

function addTag(parent: Command, start: Start): void {
  const command = parent
    .command('tag')
    .description('Names the version that a snapshot of a volume is.')
    .argument('<snapshot>', ID_HELP)
    .argument('<tag>', 'the new name')
    .action(async (id: string, tag: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const snapshot = await requireSnapshot(repository, id);
      const { dataset, version } = contentOf(snapshot);
      await writeTag(repository, dataset, tag, { version });
      session.output.document({ snapshot: snapshot.id, dataset, tag, version });
      session.output.line(`${dataset}@${tag} is version ${shortId(version)}`);
    });
  withExamples(command, [['snapshot tag snap-5f0c1d v17', 'Name it v17']]);
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
    .argument('<name>', `NAME@TAG; or ${ID_HELP}`)
    .argument('<dir>', 'the directory to mount on; made where it is not there')
    .option('--capacity <size>', "the workspace's room for changes, such as 20G", bytesOption)
    .action(async (name: string, dir: string, options: { readonly capacity?: number }, command: Command) => {
      const session = start(command);
      requireMountRights();
      const from = await versionName(session, name);
      const directory = await ensureDirectory(dir);
      const mounted = await withNode(session, { start: true, phase: `Mounting ${name}` }, (call) =>
        call('mount', {
          repository: session.environment.repository,
          name: from,
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

/** What a snapshot of a volume is, as NAME@VERSION; anything else as it is. */
async function versionName(session: Session, text: string): Promise<string> {
  const repository = await session.openRepository();
  const snapshot = isSnapshotId(text) ? await requireSnapshot(repository, text) : await findSnapshot(repository, text);
  if (snapshot === undefined) return text;
  const { dataset, version } = contentOf(snapshot);
  return `${dataset}@${version}`;
}

function addDelete(parent: Command, start: Start): void {
  const command = parent
    .command('delete')
    .description("Removes a snapshot's name or record. The version stays as long as something else leads to it.")
    .argument('<name>', `NAME@TAG; ${ID_HELP}; or a group's id`)
    .action(async (name: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      if (groupRecords.slotOfId(name) !== undefined) {
        await deleteGroup(session, repository, name);
        return;
      }
      const snapshot = isSnapshotId(name)
        ? await requireSnapshot(repository, name)
        : await findSnapshot(repository, name);
      if (snapshot !== undefined) {
        await deleteSnapshot(repository, snapshot.id);
        session.output.document({ snapshot: snapshot.id, deleted: true });
        session.output.line(`snapshot ${snapshot.id} is gone`);
        return;
      }
      const { dataset, ref: tag } = parseDatasetName(name);
      if (tag === undefined)
        throw new InvalidError(
          `'${name}' names no snapshot: give NAME@TAG, or the id or name of a snapshot of a volume; 'larder snapshot list' shows what there is`,
        );
      await requireTag(repository, dataset, tag);
      await deleteTag(repository, dataset, tag);
      session.output.document({ dataset, tag, deleted: true });
      session.output.line(`snapshot ${dataset}@${tag} is gone`);
    });
  withExamples(command, [
    ['snapshot delete emoji@snapshot-20261125T160534.120Z', 'Forget one'],
    ['snapshot delete snap-5f0c1d', 'Forget one of a volume'],
    ['snapshot delete before-cleaning', 'Forget it by its name'],
  ]);
}

async function deleteGroup({ output }: Session, repository: Repository, text: string): Promise<void> {
  const { id } = await readGroupSnapshot(repository, text);
  await deleteGroupSnapshot(repository, id);
  output.document({ group: id, deleted: true });
  output.line(`group ${id} is gone, with all of its snapshots`);
}
