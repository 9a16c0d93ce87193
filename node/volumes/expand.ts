import { growWorkspace } from '../../mount/workspace.ts';
import { faultPoint } from '../../system/fault.ts';
import { recordAt } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** See `NodeService.expand`. */
export async function expandVolume(
  context: VolumesContext,
  volume: string,
  path: string,
  capacityBytes: number,
): Promise<number> {
  const { records, workspaceOf } = context;
  const record = recordAt(records, volume, path);
  if (record.kind === 'pinned') return record.size.bytes;
  const { at, file } = workspaceOf(volume);
  const bytes = await growWorkspace({ file, at, capacity: capacityBytes });
  // Staged anew by a later daemon, it is not to be asked for less than it has.
  if ((record.capacityBytes ?? 0) < capacityBytes) await records.put({ ...record, capacityBytes });
  faultPoint('grow.recorded');
  return bytes;
}
