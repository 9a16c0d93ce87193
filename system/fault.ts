import { readFileSync, rmSync, writeFileSync } from 'node:fs';

/*
 * Places between two side effects where a test ends the process, as a crash would: `LARDER_FAULT=stage.recorded`, or
 * `stage.recorded:3` for the third time that it is passed. Without the variable a place costs one comparison.
 *
 * Or LARDER_FAULT is an absolute path: the file there, if there is one, says the same, and is looked at each time that a place is passed. The
 * process that ends removes it, and leaves the place and its id in FILE.passed.
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
  'grow.recorded',
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
  'ephemeral.discarded',
] as const;

export type FaultPoint = (typeof FAULT_POINTS)[number];

const setting = process.env.LARDER_FAULT;
const [wanted, count] = (setting ?? '').split(':');
let left = Number(count ?? 1);

/** Ends the process here where LARDER_FAULT says so: by SIGKILL, so that nothing is put in order. */
export function faultPoint(name: FaultPoint): void {
  if (setting === undefined) return;
  if (setting.startsWith('/')) passByFile(setting, name);
  else if (name === wanted) {
    left -= 1;
    if (left === 0) process.kill(process.pid, 'SIGKILL');
  }
}

function passByFile(file: string, name: FaultPoint): void {
  const [here, times = '1'] = readIfThere(file).trim().split(':');
  if (here !== name) return;
  if (Number(times) > 1) {
    writeFileSync(file, `${name}:${Number(times) - 1}`);
    return;
  }
  rmSync(file);
  writeFileSync(`${file}.passed`, `${name} ${process.pid}`);
  process.kill(process.pid, 'SIGKILL');
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
