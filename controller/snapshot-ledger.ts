import type { Digest } from '../dataset/digest.ts';
import { LarderError, NotFoundError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { faultPoint } from '../system/fault.ts';
import type { SnapshotRecord } from './snapshot.ts';
import { DEFAULT_AUTHOR, defaultMessage, nameVersion } from './snapshot-names.ts';
import { snapshotStore } from './snapshot-store.ts';

/** The ledger of snapshots that a node's daemon is given (node/snapshots/ledger.ts says what each call does). */
export function createSnapshotLedger(repository: Repository) {
  const store = snapshotStore(repository);
  const isOf = (record: SnapshotRecord, cut: string) =>
    record.created !== undefined && record.cut === cut && !record.ready;
  const change = async (id: string, change: (record: SnapshotRecord) => SnapshotRecord | undefined) => {
    try {
      await store.change(id, change);
    } catch (error) {
      // Deleted: there is nothing to tell.
      if (!(error instanceof NotFoundError) || (await store.find(id)) !== undefined) throw error;
    }
  };
  return {
    async standing(id: string, cut: string) {
      const record = (await store.find(id))?.record;
      if (record === undefined) return { standing: 'unwanted' as const };
      if (record.created === undefined) return { standing: 'waiting' as const };
      if (!isOf(record, cut)) return { standing: 'unwanted' as const };
      const { author = DEFAULT_AUTHOR, message = defaultMessage(record), meta } = record.about;
      return { standing: 'wanted' as const, version: { author, message, ...(meta !== undefined && { meta }) } };
    },

    async ready(id: string, cut: string, version: Digest): Promise<void> {
      const record = (await store.find(id))?.record;
      if (record === undefined || !isOf(record, cut)) return;
      const failure = await namingFault(repository, record, version);
      await change(id, (now) => {
        if (!isOf(now, cut)) return undefined;
        const { lower: _, failure: __, ...rest } = now;
        return { ...rest, version, ready: true, ...(failure !== undefined && { failure }) };
      });
      faultPoint('snapshot.ready');
    },

    async failed(id: string, cut: string, failure: string | undefined): Promise<void> {
      await change(id, (now) => {
        if (!isOf(now, cut) || now.failure === failure) return undefined;
        const { failure: _, ...rest } = now;
        return failure === undefined ? rest : { ...rest, failure };
      });
    },
  };
}

/** Gives the version its names. @returns what could not be done */
async function namingFault(
  repository: Repository,
  { dataset, about }: SnapshotRecord,
  version: Digest,
): Promise<string | undefined> {
  try {
    await nameVersion(repository, dataset, version, about);
    return undefined;
  } catch (error) {
    if (!(error instanceof LarderError) || !['conflict', 'invalid'].includes(error.kind)) throw error;
    return error.message;
  }
}
