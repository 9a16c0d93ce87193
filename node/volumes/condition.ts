import { statSync } from 'node:fs';
import { isErrno, NotFoundError } from '../../dataset/errors.ts';
import type { StagedRecord } from '../records.ts';
import type { VolumeCondition } from '../service-types.ts';
import { isOurs } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** What keeps the changes of a workspace from its record; nothing where both are absent. */
export interface SaveTrouble {
  /** Since when saving fails: ISO 8601. */
  readonly failing?: { readonly since: string; readonly message: string };
  /** Another node has the workspace; `branch`: where the changes of this one were set aside, once they are. */
  readonly fenced?: { readonly branch?: string };
}

/** See `NodeService.condition`. What is worst comes first. */
export async function volumeCondition(context: VolumesContext, volume: string): Promise<VolumeCondition> {
  const record = context.records.get(volume);
  if (record === undefined)
    throw new NotFoundError(`volume ${volume} is not staged on this node`, { facts: { volume } });
  const missing = missingMount(record) ?? deadMount(record, context);
  if (missing !== undefined) return { abnormal: true, reason: 'not-mounted', message: missing };
  const { fenced, failing } = context.saves.stateOf(volume) ?? {};
  if (fenced !== undefined) return { abnormal: true, reason: 'fenced', message: fencedText(fenced) };
  if (failing !== undefined) {
    const message = `changes are not saved since ${failing.since}, and are on this node only: ${failing.message}`;
    return { abnormal: true, reason: 'not-saved', message };
  }
  const reached = await context.reach?.last(record.repository);
  if (reached?.ok === false) {
    const message = `its repository does not answer, so that what is not cached cannot be read: ${reached.message}`;
    return { abnormal: true, reason: 'unavailable', message };
  }
  const what = `${record.dataset}@${record.version.slice(0, 12)}`;
  return { abnormal: false, reason: 'healthy', message: `mounted: ${what}` };
}

function missingMount(record: StagedRecord): string | undefined {
  if (record.state !== 'staged') return `it is being staged at ${record.stagingPath}`;
  const places = [record.stagingPath, ...record.published.map(({ targetPath }) => targetPath)];
  const missing = places.find((path) => !isOurs(record, path));
  return missing && `nothing of it is mounted at ${missing} any more: delete the pod, so that it is mounted anew`;
}

/** The kernel gives a file system up whose disk fails or is full, and everything in it is an I/O error from then on. */
function deadMount({ kind, stagingPath }: StagedRecord, { cache }: VolumesContext): string | undefined {
  if (kind !== 'workspace') return undefined;
  try {
    statSync(stagingPath);
    return undefined;
  } catch (error) {
    if (!isErrno(error, 'EIO')) throw error;
    const { directory } = cache.layout;
    return `the kernel has shut its file system down: look at the disk of ${directory} (dmesg; is it full?), then delete the pod, so that it is mounted anew`;
  }
}

function fencedText({ branch }: NonNullable<SaveTrouble['fenced']>): string {
  const kept =
    branch === undefined ? 'changes made here are going to be set aside' : `changes made here are in branch ${branch}`;
  return `another node has taken this workspace: ${kept}. Delete the pod here, and merge what is needed`;
}
