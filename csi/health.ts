import type { ProblemReason, RecordCondition } from '../controller/condition.ts';
import type { Check } from '../node/health.ts';
import type { ConditionReason, VolumeCondition } from '../node/service-types.ts';
import type { StorageHealthEntry, VolumeHealthEntry, VolumeHealthMessage } from './messages/health.ts';
import type { VolumeConditionMessage } from './messages/volume.ts';
import { shortened } from './text.ts';

/** Of one message, in characters: a page of volumes' must fit in one answer (controller/record-store.ts). */
const MESSAGE_LIMIT = 1000;

type Health = Pick<VolumeHealthEntry, 'status' | 'reason'>;

/** Nothing is lost in any of them, so none is DATA_LOSS: who loses the right to save keeps the changes aside. */
const byProblem: Readonly<Record<ProblemReason, Health>> = {
  'holder-lost': { status: 'DEGRADED', reason: 'NodeLost' },
  'changes-set-aside': { status: 'DEGRADED', reason: 'ChangesSetAside' },
  'reference-gone': { status: 'DEGRADED', reason: 'ReferenceGone' },
};

const byReason: Readonly<Record<Exclude<ConditionReason, 'healthy'>, Health>> = {
  'not-mounted': { status: 'INACCESSIBLE', reason: 'NotMounted' },
  'not-saved': { status: 'DEGRADED', reason: 'ChangesNotSaved' },
  fenced: { status: 'DEGRADED', reason: 'TakenByAnotherNode' },
  unavailable: { status: 'DEGRADED', reason: 'RepositoryUnavailable' },
};

type StorageHealth = Pick<StorageHealthEntry, 'status' | 'reason'>;

/** Of a node's checks, those that are about its volumes. Without a repository what is cached is read on. */
const byCheck: Readonly<Record<string, StorageHealth>> = {
  ring: { status: 'STORAGE_UNREACHABLE', reason: 'RingEnded' },
  keeper: { status: 'STORAGE_DEGRADED', reason: 'NoKeeper' },
  disk: { status: 'STORAGE_DEGRADED', reason: 'CacheDiskFull' },
  repository: { status: 'STORAGE_DEGRADED', reason: 'RepositoryUnavailable' },
  volumes: { status: 'STORAGE_DEGRADED', reason: 'VolumesNotTakenUp' },
  opens: { status: 'STORAGE_DEGRADED', reason: 'OpensFailed' },
};

/** What the controller's side knows, in the words of CSI 1.12. */
export function recordCondition({ summary, problems }: RecordCondition): VolumeConditionMessage {
  const [first] = problems;
  if (first === undefined) return { abnormal: false, message: summary };
  return {
    abnormal: true,
    message: shortened([...problems.map(({ message }) => message), summary].join('. '), MESSAGE_LIMIT),
  };
}

/** The same in those of CSI 1.13. */
export function recordHealth(volumeId: string, { problems }: RecordCondition): VolumeHealthMessage {
  const healthStatuses = problems.map(({ reason, message }) => ({
    ...byProblem[reason],
    message: shortened(message, MESSAGE_LIMIT),
  }));
  return { volumeId, healthStatuses };
}

/** What a node knows of a volume that is staged there. */
export function nodeCondition({ abnormal, message }: VolumeCondition): VolumeConditionMessage {
  return { abnormal, message };
}

export function nodeHealth(volumeId: string, { reason, message }: VolumeCondition): VolumeHealthMessage {
  return { volumeId, healthStatuses: reason === 'healthy' ? [] : [{ ...byReason[reason], message }] };
}

/** What is wrong with a node's part of the storage, each reason once. */
export function storageHealth(checks: readonly Check[]): readonly StorageHealthEntry[] {
  const wrong = checks.filter(({ ok }) => !ok);
  // `repository` comes with its location, and once for each.
  return Object.entries(byCheck).flatMap(([check, health]) => {
    const messages = wrong
      .filter(({ name }) => name.split(' ')[0] === check)
      .map(({ name, message }) => `${name}: ${message}`);
    return messages.length === 0 ? [] : [{ ...health, message: messages.join('; ') }];
  });
}
