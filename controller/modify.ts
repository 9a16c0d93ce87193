import { InvalidError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { faultPoint } from '../system/fault.ts';
import { CapacityError, type CapacityRange, WORKSPACE_MAXIMUM } from './capacity.ts';
import { added } from './ledger.ts';
import { type Modification, readMutable, sourceName } from './parameters.ts';
import type { Volume } from './volume.ts';
import { changeVolume, readVolume } from './volume-store.ts';
import { notToFollow } from './volumes.ts';

/**
 * Changes what of a volume may change while pods run. A `version` is looked up now: of a pinned volume it is what is mounted by the next
 * stage, and a pod that runs keeps what it has.
 * @param parameters those of a VolumeAttributesClass; a key that is missing changes nothing
 * Errors: NotFoundError for the volume, before anything else, and for the version; InvalidError that names the key, and the keys that
 * can change or the choices.
 */
export async function modifyVolume(
  repository: Repository,
  id: string,
  parameters: Readonly<Record<string, string>>,
): Promise<Volume> {
  const volume = await readVolume(repository, id);
  const modification = readMutable(parameters);
  refuseForKind(volume, modification);
  const { ref, settings } = modification;
  const follow = 'follow' in settings ? settings.follow : volume.settings.follow;
  const source = sourceOf(volume, ref ?? volume.ref);
  // What is followed from now on is looked up now too: it is checked at once, and not at the next stage.
  const isLooked = ref !== undefined || (settings.follow === true && volume.settings.follow !== true);
  const found = isLooked ? await resolveName(repository, sourceName(source)) : undefined;
  if (follow && found?.kind === 'version') throw notToFollow(source);
  const modified = await changeVolume(repository, id, (before) => {
    const changed = { ...before, settings: withSettings(before.settings, settings) };
    if (found === undefined) return changed;
    return { ...moved(changed, found.version), ref: source.ref };
  });
  faultPoint('modify.recorded');
  return modified;
}

/**
 * The volume as a node is to stage it now: one that follows a branch or a tag is looked up anew, and its record says what was found.
 * Errors: NotFoundError for the volume, or where the branch is gone.
 */
export async function volumeToStage(repository: Repository, id: string): Promise<Volume> {
  const volume = await readVolume(repository, id);
  if (volume.kind !== 'pinned' || !volume.settings.follow) return volume;
  const { version } = await resolveName(repository, sourceName(sourceOf(volume, volume.ref)));
  if (version === volume.version) return volume;
  return await changeVolume(repository, id, (before) =>
    // Modified since: another reference counts.
    before.settings.follow && before.ref === volume.ref ? moved(before, version) : undefined,
  );
}

/**
 * Makes a volume as large as is asked, never smaller: what is large enough stays.
 * Errors: NotFoundError; CapacityError where it is larger than the limit, or is to be larger than any volume.
 */
export async function expandVolume(repository: Repository, id: string, range: CapacityRange): Promise<Volume> {
  const { required = 0, limit = Number.POSITIVE_INFINITY } = range;
  const expanded = await changeVolume(repository, id, (before) => {
    if (required > limit)
      throw new CapacityError(`${required} bytes are required, and the limit is ${limit}: raise the limit`);
    if (before.capacityBytes > limit)
      throw new CapacityError(
        `the volume has ${before.capacityBytes} bytes, and the limit is ${limit}: it does not become smaller`,
      );
    if (required > WORKSPACE_MAXIMUM)
      throw new CapacityError(`a volume has at most ${WORKSPACE_MAXIMUM} bytes (16 TiB), and ${required} are required`);
    return required <= before.capacityBytes ? undefined : { ...before, capacityBytes: required };
  });
  faultPoint('expand.recorded');
  return expanded;
}

function refuseForKind({ kind, id }: Volume, { ref, settings }: Modification): void {
  if (kind === 'pinned') return;
  const key = ref !== undefined ? 'version' : settings.follow ? 'follow' : undefined;
  if (key === undefined) return;
  throw new InvalidError(
    `parameter "${key}": volume ${JSON.stringify(id)} is a workspace, which has changes to the version that it was created from: ` +
      'create another volume from the other version, or merge',
    { facts: { volume: id, parameter: key } },
  );
}

function sourceOf({ dataset }: Volume, ref: string | undefined) {
  return { dataset, ...(ref !== undefined && { ref }) };
}

/** With another version to be mounted next. Pods that have the one before keep it, so it is kept. */
function moved(volume: Volume, version: Volume['version']): Volume {
  if (version === volume.version) return volume;
  return { ...volume, version, kept: added(volume.kept, volume.version) };
}

function withSettings(settings: VolumeSettings, changes: Partial<VolumeSettings>): VolumeSettings {
  const all = { ...settings, ...changes };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as never;
}
