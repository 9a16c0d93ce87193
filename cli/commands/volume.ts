import type { Command } from 'commander';
import { isAlive, type NodeObserver } from '../../controller/nodes.ts';
import type { Volume } from '../../controller/volume.ts';
import { deleteVolume } from '../../controller/volumes.ts';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { mapAhead } from '../../dataset/map-ahead.ts';
import { formatDate } from '../format.ts';
import { withExamples } from '../help.ts';
import { requireDataset } from '../names.ts';
import type { Session, Start } from '../session.ts';
import { type Column, formatTable } from '../table.ts';
import { snapshotsOf } from '../volume-snapshots.ts';
import {
  aboutStaged,
  aboutVolume,
  conditionWords,
  observerOf,
  requireVolume,
  stagedHere,
  VOLUME_HELP,
  volumeDocument,
  volumesOf,
  withCondition,
} from '../volumes.ts';

const COLUMNS: readonly Column[] = [
  { title: 'VOLUME' },
  { title: 'CONTENT' },
  { title: 'KIND' },
  { title: 'NODE' },
  { title: 'SAVED' },
  { title: 'CONDITION' },
];

/** Volumes that are looked at ahead. */
const LOOKED_AHEAD = 16;

/** `larder volume …` */
export function addVolume(program: Command, start: Start): void {
  const volume = program
    .command('volume')
    .summary('look at volumes of a cluster')
    .description(
      'Shows the volumes that a cluster has in the repository, whichever node they are on, and removes what was left behind. They are created through CSI.',
    );
  addList(volume, start);
  addShow(volume, start);
  addDelete(volume, start);
  withExamples(volume, [
    ['volume list', 'All of them, and how they are'],
    ['volume show pvc-0c5e2a', 'All there is to know of one'],
  ]);
}

function addList(parent: Command, start: Start): void {
  const command = parent
    .command('list')
    .alias('ls')
    .description(
      "Lists volumes: what they have, which node holds a workspace, when it was saved last, and what is wrong. By one look: 'volume delete' and 'snapshot create' watch a node before they take it for lost.",
    )
    .argument('[dataset]', 'only those of one dataset')
    .action(async (dataset: string | undefined, _options: object, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const repository = await session.openRepository();
      const volumes = await volumesOf(repository, dataset);
      // A dataset that is deleted may have volumes still.
      if (dataset !== undefined && volumes.length === 0) await requireDataset(repository, dataset);
      const nodes = observerOf(repository, session);
      const rows: string[][] = [];
      for await (const each of mapAhead(volumes, LOOKED_AHEAD, (volume) => withCondition(repository, volume, nodes))) {
        signal.throwIfAborted();
        output.document(volumeDocument(each));
        const { name, dataset, version, kind, holder, savedAt } = each.volume;
        const words = conditionWords(each.condition);
        rows.push([
          name,
          `${dataset}@${shortId(version)}`,
          kind,
          holder?.node ?? '-',
          savedAt === undefined ? '-' : formatDate(savedAt),
          words === 'well' ? words : output.style('red', words),
        ]);
      }
      if (rows.length === 0) {
        if (!output.json) output.note(`no volumes${dataset === undefined ? '' : ` of ${dataset}`} in the repository`);
        return;
      }
      for (const line of formatTable(COLUMNS, rows)) output.line(line);
    });
  withExamples(command, [
    ['volume list', 'All volumes'],
    ['volume list emoji', "One dataset's"],
  ]);
}

function addShow(parent: Command, start: Start): void {
  const command = parent
    .command('show')
    .description(
      'Tells what there is to know of a volume: its record, who holds it, how it is, branches with changes that were set aside, its snapshots, and what this node says of it where it is staged here.',
    )
    .argument('<volume>', VOLUME_HELP)
    .action(async (text: string, _options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const repository = await session.openRepository();
      const volume = await requireVolume(repository, text);
      const [found, snapshots, staged] = await Promise.all([
        withCondition(repository, volume, observerOf(repository, session)),
        snapshotsOf(repository, { source: volume.id }),
        stagedHere(session, volume.id),
      ]);
      const ids = snapshots.map(({ id }) => id);
      output.document({ ...volumeDocument(found), snapshots: ids, ...(staged && { here: staged }) });
      for (const line of aboutVolume(found, ids)) output.line(line);
      for (const line of staged === undefined ? [] : aboutStaged(staged)) output.line(line);
    });
  withExamples(command, [
    ['volume show pvc-0c5e2a', 'By its name'],
    ['volume show pvc-0c5e2a --json', 'The same for a program'],
  ]);
}

function addDelete(parent: Command, start: Start): void {
  const command = parent
    .command('delete')
    .description(
      "Removes a volume, as a cluster does that deletes its persistent volume: for one that the cluster has forgotten. What it holds goes with it, unless its retention is 'keep', or a snapshot or another name leads to it. One that a node holds is not removed while that node gives signs of life.",
    )
    .argument('<volume>', VOLUME_HELP)
    .option('-y, --yes', 'remove it; without this, only say what would go')
    .action(async (text: string, options: { readonly yes?: boolean }, command: Command) => {
      const session = start(command);
      const { output } = session;
      const repository = await session.openRepository();
      const volume = await requireVolume(repository, text);
      const { id, name } = volume;
      if (!options.yes)
        throw new InvalidError(`volume '${name}' (${id}) is ${contentWords(volume)}: add --yes to remove it`, {
          facts: { volume: id, name, node: volume.holder?.node },
        });
      const nodes = observerOf(repository, session);
      await watchHolder(session, volume, nodes);
      const { branch } = await deleteVolume(repository, id, { nodes });
      output.document({ volume: id, name, deleted: true, ...(branch !== undefined && { branch }) });
      const kept = branch === undefined ? '' : `; its content is ${volume.dataset}@${branch}`;
      output.line(`volume ${name} is gone${kept}`);
    });
  withExamples(command, [
    ['volume delete pvc-0c5e2a', 'Say what would go'],
    ['volume delete pvc-0c5e2a --yes', 'Remove it'],
  ]);
}

/** A node that was lost is told from one that lives by watching it. */
async function watchHolder({ output, signal }: Session, { holder }: Volume, nodes: NodeObserver): Promise<void> {
  if (holder === undefined) return;
  using progress = output.progress();
  progress.update({ phase: `Looking for signs of life of node ${holder.node}`, files: 0, bytes: 0 });
  await isAlive(nodes, holder, { signal });
}

function contentWords({ kind, dataset, version, holder, settings }: Volume): string {
  const of = `a ${kind} with version ${shortId(version)} of ${dataset}`;
  const on = holder === undefined ? '' : `, on node ${holder.node}`;
  return `${of}${on}${settings.retention === 'keep' ? ', and its content would stay as a branch' : ''}`;
}
