import { mkdirSync } from 'node:fs';
import { ConflictError, NotFoundError } from '../../dataset/errors.ts';
import { bind } from '../../mount/bind.ts';
import { unmountAndRemove } from '../../mount/unmount.ts';
import { faultPoint } from '../../system/fault.ts';
import type { PublishedTarget, StagedRecord } from '../records.ts';
import { requireRight } from '../rights.ts';
import { InUseError, type PublishRequest } from '../service-types.ts';
import { endEphemeral } from './ephemeral.ts';
import { isOurs, mountedAt, refuseForeign, sourceName } from './names.ts';
import type { VolumesContext } from './parts.ts';

/** See `NodeService.publish`. Who has it already is not asked for the right again. */
export async function publishVolume(context: VolumesContext, request: PublishRequest): Promise<void> {
  const { volume, targetPath, pod } = request;
  const record = context.records.get(volume);
  const has = record !== undefined && published(record, targetPath) !== undefined && isOurs(record, targetPath);
  if (record !== undefined && !has) await requireRight(context.rights, { ...record, ...(pod && { pod }) });
  await bindVolume(context, request);
}

/** Publishes it to somebody who has the right to use it. Errors: as of `NodeService.publish`. */
export async function bindVolume({ records }: VolumesContext, request: PublishRequest): Promise<void> {
  const { volume, stagingPath, targetPath, readOnly, exclusive = false, mountGroup } = request;
  const record = records.get(volume);
  if (!isStaged(record, stagingPath)) {
    throw new NotFoundError(`volume ${volume} is not staged at ${stagingPath}: stage it first`, {
      facts: { volume, stagingPath },
    });
  }
  const group = record.view?.mountGroup;
  if (mountGroup !== undefined && mountGroup !== group) {
    const text = `volume ${volume} is staged ${group === undefined ? 'without a group' : `for group ${group}`}, and may not be published for group ${mountGroup}`;
    throw new InUseError(`${text}: pods that share it need the same fsGroup`, { facts: { volume, mountGroup } });
  }
  const wanted = { targetPath, readOnly, exclusive };
  const same = published(record, targetPath);
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
    faultPoint('publish.recorded');
  }
  if (!isOurs(record, targetPath)) bind(stagingPath, targetPath, { readOnly });
  faultPoint('publish.bound');
}

/** See `NodeService.unpublish`. */
export async function unpublishVolume(context: VolumesContext, volume: string, targetPath: string): Promise<void> {
  const { records } = context;
  const mounted = mountedAt(targetPath);
  if (mounted !== undefined && mounted.source !== sourceName(volume)) {
    throw new ConflictError(
      `at ${targetPath} is not volume ${volume} but ${mounted.type} ${mounted.source}: it is left alone; unmount it yourself`,
      { facts: { volume, targetPath } },
    );
  }
  await unmountAndRemove(targetPath);
  faultPoint('unpublish.unmounted');
  const record = records.get(volume);
  if (record === undefined) return;
  const left = record.published.filter((target) => target.targetPath !== targetPath);
  if (left.length !== record.published.length) await records.put({ ...record, published: left });
  faultPoint('unpublish.recorded');
  await endEphemeral(context, volume);
}

function published(record: StagedRecord, targetPath: string): PublishedTarget | undefined {
  return record.published.find((target) => target.targetPath === targetPath);
}

function isStaged(record: StagedRecord | undefined, stagingPath: string): record is StagedRecord {
  return record?.state === 'staged' && record.stagingPath === stagingPath && isOurs(record);
}
