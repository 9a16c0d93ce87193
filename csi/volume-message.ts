import type { Volume } from '../controller/volume.ts';
import type { StringMap, VolumeContentSource, VolumeMessage } from './messages/volume.ts';

export function messageOf(volume: Volume): VolumeMessage {
  const { source } = volume;
  return {
    volumeId: volume.id,
    capacityBytes: volume.capacityBytes,
    volumeContext: contextOf(volume),
    ...(source !== undefined && { contentSource: sourceMessage(source) }),
  };
}

/** For people who look at the PersistentVolume; the record in the repository is what counts. */
export function contextOf({ dataset, base, kind, asked: { settings } }: Volume): StringMap {
  // What it was created as: an answer is the same when it is repeated, whatever became of the volume since.
  return { dataset, version: base, kind, ...(settings.prefetch !== undefined && { prefetch: settings.prefetch }) };
}

function sourceMessage({ kind, id }: NonNullable<Volume['source']>): VolumeContentSource {
  return kind === 'snapshot' ? { snapshot: { snapshotId: id } } : { volume: { volumeId: id } };
}
