import { statfsSync } from 'node:fs';
import { NotFoundError } from '../../dataset/errors.ts';
import { readVersion } from '../../dataset/version.ts';
import type { VolumeStats } from '../service-types.ts';
import { isOurs } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** See `NodeService.stats`. */
export async function volumeStats(context: VolumesContext, volume: string, path: string): Promise<VolumeStats> {
  const record = context.records.get(volume);
  const known = record?.stagingPath === path || record?.published.some((target) => target.targetPath === path);
  if (record === undefined || !known || !isOurs(record, path)) {
    throw new NotFoundError(`volume ${volume} is neither staged nor published at ${path}`, {
      facts: { volume, path },
    });
  }
  if (record.kind === 'workspace') {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(path);
    return {
      bytes: { total: blocks * bsize, used: (blocks - bfree) * bsize, available: bavail * bsize },
      inodes: { total: files, used: files - ffree, available: ffree },
    };
  }
  const repository = await context.repositories.at(record.repository);
  const { bytes, entries } = await readVersion(repository, record.version);
  return {
    bytes: { total: bytes, used: bytes, available: 0 },
    inodes: { total: entries, used: entries, available: 0 },
  };
}
