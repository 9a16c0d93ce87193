import { workspaceUsage } from '../../mount/workspace.ts';
import type { VolumeStats } from '../service-types.ts';
import { recordAt } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** See `NodeService.stats`. It asks nobody: the repository may be away. */
export async function volumeStats(context: VolumesContext, volume: string, path: string): Promise<VolumeStats> {
  const record = recordAt(context.records, volume, path);
  if (record.kind === 'pinned') {
    const { bytes, entries } = record.size;
    return {
      bytes: { total: bytes, used: bytes, available: 0 },
      inodes: { total: entries, used: entries, available: 0 },
    };
  }
  const { totalBytes, usedBytes, availableBytes, totalInodes, usedInodes } = workspaceUsage(path);
  return {
    bytes: { total: totalBytes, used: usedBytes, available: availableBytes },
    inodes: { total: totalInodes, used: usedInodes, available: totalInodes - usedInodes },
  };
}
