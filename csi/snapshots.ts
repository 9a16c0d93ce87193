import type { Snapshot } from '../controller/snapshot.ts';
import { createSnapshot, deleteSnapshot, listSnapshots, readSnapshot } from '../controller/snapshots.ts';
import type { Handler } from './call.ts';
import { requiredName } from './check.ts';
import { snapshotKey, snapshotNamed } from './lock-keys.ts';
import type { Empty } from './messages/identity.ts';
import type {
  CreateSnapshotRequest,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  SnapshotMessage,
  SnapshotRequest,
  SnapshotResponse,
  Timestamp,
} from './messages/snapshot.ts';
import { pageOf } from './page.ts';
import type { ControllerParts } from './volumes.ts';

/** The Controller's calls about snapshots. */
export interface SnapshotCalls {
  readonly CreateSnapshot: Handler<CreateSnapshotRequest, SnapshotResponse>;
  readonly DeleteSnapshot: Handler<SnapshotRequest, Empty>;
  readonly GetSnapshot: Handler<SnapshotRequest, SnapshotResponse>;
  readonly ListSnapshots: Handler<ListSnapshotsRequest, ListSnapshotsResponse>;
}

export function createSnapshotCalls({ repository, lock, asks, nodes }: ControllerParts): SnapshotCalls {
  return {
    async CreateSnapshot(request, signal) {
      const name = requiredName(request.name, 'name');
      const source = requiredName(request.sourceVolumeId, 'source_volume_id');
      const { parameters } = request;
      // Not the source's key: its own calls go on meanwhile.
      const snapshot = await lock(snapshotNamed(name), () =>
        createSnapshot(repository, { name, source, parameters }, { asks, nodes, signal }),
      );
      return { snapshot: snapshotMessage(snapshot) };
    },

    async DeleteSnapshot(request) {
      const id = requiredName(request.snapshotId, 'snapshot_id');
      await lock(snapshotKey(id), () => deleteSnapshot(repository, id));
      return {};
    },

    async GetSnapshot(request) {
      const id = requiredName(request.snapshotId, 'snapshot_id');
      return { snapshot: snapshotMessage(await readSnapshot(repository, id)) };
    },

    async ListSnapshots(request, signal) {
      const { snapshotId, sourceVolumeId } = request;
      const { snapshots, next = '' } = await listSnapshots(repository, {
        ...(snapshotId !== '' && { id: snapshotId }),
        ...(sourceVolumeId !== '' && { source: sourceVolumeId }),
        ...pageOf(request),
        signal,
      });
      return { entries: snapshots.map((each) => ({ snapshot: snapshotMessage(each) })), nextToken: next };
    },
  };
}

export function snapshotMessage(snapshot: Snapshot): SnapshotMessage {
  const { id, source, capacityBytes, created, ready, group } = snapshot;
  return {
    snapshotId: id,
    sourceVolumeId: source,
    sizeBytes: capacityBytes,
    creationTime: timestampOf(created),
    readyToUse: ready,
    ...(group !== undefined && { groupSnapshotId: group }),
  };
}

/** @param moment ISO 8601 */
export function timestampOf(moment: string): Timestamp {
  const milliseconds = Date.parse(moment);
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1_000_000 };
}
