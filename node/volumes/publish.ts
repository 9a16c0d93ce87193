import { mkdirSync } from 'node:fs';
import { ConflictError, NotFoundError } from '../../dataset/errors.ts';
import { bind } from '../../mount/bind.ts';
import { unmountAndRemove } from '../../mount/unmount.ts';
import type { StagedRecord } from '../records.ts';
import { InUseError, type PublishRequest } from '../service-types.ts';
import { isOurs, mountedAt, refuseForeign, sourceName } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** See `NodeService.publish`. */
export async function publishVolume({ records }: VolumesContext, request: PublishRequest): Promise<void> {
  const { volume, stagingPath, targetPath, readOnly, exclusive = false } = request;
  const record = records.get(volume);
  if (!isStaged(record, stagingPath)) {
    throw new NotFoundError(`volume ${volume} is not staged at ${stagingPath}: stage it first`, {
      facts: { volume, stagingPath },
    });
  }
  const wanted = { targetPath, readOnly, exclusive };
  const same = record.published.find((target) => target.targetPath === targetPath);
  if (same !== undefined && same.readOnly !== readOnly) {
    throw new ConflictError(
      `volume ${volume} is published at ${targetPath} ${same.readOnly ? 'read-only' : 'writable'}: unpublish it first`,
      { facts: { volume, targetPath } },
    );
  }
  const other = record.published.find((target) => target !== same && (exclusive || target.exclusive));
  if (other !== undefined) {
    throw new InUseError(
      `volume ${volume} is published at ${other.targetPath}, and may be at one place only: unpublish it there first`,
      { facts: { volume, targetPath: other.targetPath } },
    );
  }
  mkdirSync(targetPath, { recursive: true });
  if (same === undefined) {
    refuseForeign(targetPath);
    // Recorded first: what is bound has a record, also after a crash in between.
    await records.put({ ...record, published: [...record.published, wanted] });
  }
  if (!isOurs(record, targetPath)) bind(stagingPath, targetPath, { readOnly });
}

/** See `NodeService.unpublish`. */
export async function unpublishVolume({ records }: VolumesContext, volume: string, targetPath: string): Promise<void> {
  const mounted = mountedAt(targetPath);
  if (mounted !== undefined && mounted.source !== sourceName(volume)) {
    throw new ConflictError(
      `at ${targetPath} is not volume ${volume} but ${mounted.type} ${mounted.source}: it is left alone; unmount it yourself`,
      { facts: { volume, targetPath } },
    );
  }
  await unmountAndRemove(targetPath);
  const record = records.get(volume);
  if (record === undefined) return;
  const published = record.published.filter((target) => target.targetPath !== targetPath);
  if (published.length !== record.published.length) await records.put({ ...record, published });
}

function isStaged(record: StagedRecord | undefined, stagingPath: string): record is StagedRecord {
  return record?.state === 'staged' && record.stagingPath === stagingPath && isOurs(record);
}
