import { conditionOf, type RecordCondition } from '../controller/condition.ts';
import { createNodeObserver, GIVEN_UP_AFTER, type NodeObserver } from '../controller/nodes.ts';
import { type Volume, volumeRecords, volumeSlot } from '../controller/volume.ts';
import { volumeStore } from '../controller/volume-store.ts';
import { shortId } from '../dataset/digest.ts';
import { NotFoundError, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { MountedVolume } from '../node/protocol.ts';
import { formatBytes, formatDate, formatDuration, formatOctal } from './format.ts';
import { withNode } from './node.ts';
import type { Session } from './session.ts';

/** What the argument that names a volume may be. */
export const VOLUME_HELP = "a volume's id, or its name, which is the persistent volume's";

/** The volume with this id, or that was created by this name: what a cluster calls its persistent volume. Undefined where there is none. */
export async function findVolume(repository: Repository, text: string): Promise<Volume | undefined> {
  const store = volumeStore(repository);
  const isId = volumeRecords.slotOfId(text) !== undefined;
  return (await (isId ? store.find(text) : store.at(volumeSlot(text))))?.record;
}

/**
 * @param orElse what else might have been given
 * Errors: NotFoundError.
 */
export async function requireVolume(repository: Repository, text: string, orElse = ''): Promise<Volume> {
  const volume = await findVolume(repository, text);
  if (volume !== undefined) return volume;
  if (volumeRecords.slotOfId(text) !== undefined) throw volumeStore(repository).none(text);
  throw new NotFoundError(
    `there is no volume '${text}' in ${repository.location}: give a volume's id or name, which is the persistent volume's${orElse}; 'larder volume list' shows what there is`,
    { facts: { volume: text } },
  );
}

/** How long nothing must be heard of a node until it is given up, in milliseconds. */
export function giveUpAfter(session: Session): number {
  return session.nodeSettings().giveUp ?? GIVEN_UP_AFTER;
}

export function observerOf(repository: Repository, session: Session): NodeObserver {
  return createNodeObserver({ repository, window: giveUpAfter(session) });
}

/** All volumes, or those of one dataset, by their names. */
export async function volumesOf(repository: Repository, dataset?: string): Promise<Volume[]> {
  const found: Volume[] = [];
  for await (const { record } of volumeStore(repository).all())
    if (dataset === undefined || record.dataset === dataset) found.push(record);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

export interface VolumeAndCondition {
  readonly volume: Volume;
  readonly condition: RecordCondition;
}

export async function withCondition(
  repository: Repository,
  volume: Volume,
  nodes: Pick<NodeObserver, 'look'>,
): Promise<VolumeAndCondition> {
  return { volume, condition: await conditionOf(repository, volume, nodes) };
}

/** What programs are told of a volume. */
export function volumeDocument({ volume, condition }: VolumeAndCondition): object {
  const { id, ...rest } = volume;
  const { problems, summary } = condition;
  return { volume: id, ...rest, condition: { ok: problems.length === 0, summary, problems } };
}

/** `well`, or what is the matter, a word each. */
export function conditionWords({ problems }: RecordCondition): string {
  return problems.length === 0 ? 'well' : problems.map(({ reason }) => reason).join(', ');
}

/** What this node has of a volume: undefined where it has nothing, or no daemon runs. */
export async function stagedHere(session: Session, volume: string): Promise<MountedVolume | undefined> {
  try {
    const { volumes } = await withNode(session, { start: false, phase: 'Asking' }, (call) => call('status', {}));
    return volumes.find((each) => each.volume === volume);
  } catch (error) {
    if (error instanceof UnavailableError) return undefined;
    throw error;
  }
}

/** Lines that tell of one volume. */
export function aboutVolume({ volume, condition }: VolumeAndCondition, snapshots: readonly string[]): string[] {
  const { id, name, kind, dataset, ref, version, base, lower, kept, capacityBytes, generation } = volume;
  const { source, last, savedAt, aside = [], created } = volume;
  const lines: [string, string][] = [
    ['volume', id],
    ['name', name],
    ['kind', kind],
    ['content', `${dataset}@${version}`],
    ['from', `${dataset}@${ref ?? 'main'}, then version ${shortId(base)}`],
    ...(lower === undefined || lower === version ? [] : [['below', `version ${shortId(lower)}`] as [string, string]]),
    ...(kept === undefined ? [] : [['kept', kept.map(shortId).join(', ')] as [string, string]]),
    ...(source === undefined ? [] : [['made of', `${source.kind} ${source.id}`] as [string, string]]),
    ['size', formatBytes(capacityBytes)],
    ['settings', settingWords(volume)],
    ['created', formatDate(created)],
  ];
  if (kind === 'workspace') {
    lines.push(['saved', savedAt === undefined ? 'never' : formatDate(savedAt)]);
    lines.push(['holder', `${holderWords(volume)}; generation ${generation}`]);
    if (last !== undefined) lines.push(['last', `node ${last.node}, which may go on with its image`]);
  }
  for (const branch of aside) lines.push(['aside', `${dataset}@${branch}`]);
  for (const snapshot of snapshots) lines.push(['snapshot', snapshot]);
  const { problems } = condition;
  for (const { reason, message } of problems) lines.push(['wrong', `${reason}: ${message}`]);
  if (problems.length === 0) lines.push(['state', `well: ${condition.summary}`]);
  return lines.map(([title, text]) => `${title.padEnd(9)}${text}`);
}

function holderWords({ holder }: Volume): string {
  if (holder === undefined) return 'no node';
  const since = `since ${formatDate(holder.since)}`;
  return `node ${holder.node} ${since}${holder.unsaved ? ', unstaged there, and still saving' : ''}`;
}

function settingWords({ settings }: Volume): string {
  const spans: readonly string[] = ['deadline', 'autosave'];
  const words = Object.entries(settings).map(([key, value]) => {
    if (key === 'mode') return `mode ${formatOctal(value as number)}`;
    if (key === 'autosave' && value === 0) return 'autosave off';
    if (spans.includes(key)) return `${key} ${formatDuration(value as number)}`;
    if (key === 'bandwidth') return `bandwidth ${formatBytes(value as number)}/s`;
    return `${key} ${value}`;
  });
  return words.join(', ');
}

/** Lines of what this node says of a volume. */
export function aboutStaged({ directory, version, saves }: MountedVolume): string[] {
  const lines = [`here     mounted at ${directory}, on version ${shortId(version)}`];
  if (saves === undefined) return lines;
  const { savedAt, lag, failing, fenced } = saves;
  if (fenced !== undefined) {
    const branch = fenced.branch === undefined ? 'are going to be set aside' : `are in branch ${fenced.branch}`;
    lines.push(`         another node has it now: changes made here ${branch}`);
  } else {
    const when = savedAt === undefined ? 'not saved by this daemon yet' : `saved ${formatDate(savedAt)}`;
    lines.push(`         ${when}; a change that is not saved may be ${formatDuration(lag)} old`);
  }
  if (failing !== undefined) lines.push(`         saving fails since ${formatDate(failing.since)}: ${failing.message}`);
  return lines;
}
