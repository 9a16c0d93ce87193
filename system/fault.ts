/*
 * Places between two side effects where a test ends the process, as a crash would: `LARDER_FAULT=stage.recorded`, or
 * `stage.recorded:3` for the third time that it is passed. Without the variable a place costs one comparison.
 */

/** Each is passed in one place of the code, after the effect that it is named for. */
export const FAULT_POINTS = [
  'create.recorded',
  'delete.discarded',
  'delete.branch-made',
  'delete.record-removed',
  'modify.recorded',
  'expand.recorded',
  'stage.recorded',
  'stage.taken',
  'stage.image-mounted',
  'stage.workspace-recorded',
  'stage.workspace-made',
  'stage.workspace-mounted',
  'stage.mounted',
  'stage.done',
  'publish.recorded',
  'publish.bound',
  'unpublish.unmounted',
  'unpublish.recorded',
  'unstage.unmounted',
  'unstage.saved',
  'unstage.released',
  'unstage.workspace-unmounted',
  'unstage.image-released',
  'unstage.record-removed',
  'grow.file-longer',
  'grow.grown',
  'save.cloned',
  'save.committed',
  'save.recorded',
  'save.kept',
  'aside.committed',
  'aside.branch-made',
  'aside.recorded',
  'snapshot.recorded',
  'snapshot.asked',
  'snapshot.cloned',
  'snapshot.noted',
  'snapshot.committed',
  'snapshot.ready',
  'snapshot.clone-removed',
  'snapshot.record-removed',
  'group.recorded',
  'group.cloned',
  'group.members-recorded',
  'ephemeral.staged',
  'ephemeral.published',
  'ephemeral.unmounted',
  'ephemeral.discarded',
] as const;

export type FaultPoint = (typeof FAULT_POINTS)[number];

const [wanted, count = '1'] = (process.env.LARDER_FAULT ?? '').split(':');
let left = Number(count);

/** Ends the process here where LARDER_FAULT says so: by SIGKILL, so that nothing is put in order. */
export function faultPoint(name: FaultPoint): void {
  if (name !== wanted) return;
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}
