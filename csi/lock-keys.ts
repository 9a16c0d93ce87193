import { groupRecords, groupSlot, snapshotRecords, snapshotSlot } from '../controller/snapshot.ts';
import { volumeRecords, volumeSlot } from '../controller/volume.ts';

/*
 * What calls are one at a time for. A thing that has no id yet has a slot, which its name says and its id too: so its creation and its
 * deletion are not under way at the same time.
 */

export function volumeNamed(name: string): string {
  return volumeSlot(name);
}

/** Ids that are no volumes' of ours have a key too: an ephemeral volume's, say. */
export function volumeKey(id: string): string {
  return volumeRecords.slotOfId(id) ?? id;
}

export function snapshotNamed(name: string): string {
  return snapshotSlot(name);
}

export function snapshotKey(id: string): string {
  return snapshotRecords.slotOfId(id) ?? id;
}

export function groupNamed(name: string): string {
  return groupSlot(name);
}

export function groupKey(id: string): string {
  return groupRecords.slotOfId(id) ?? id;
}
