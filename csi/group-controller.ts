import { createGroupSnapshot, deleteGroupSnapshot, readGroupSnapshot } from '../controller/group-snapshots.ts';
import type { GroupSnapshot } from '../controller/snapshot.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Handler } from './call.ts';
import { requiredName } from './check.ts';
import { groupKey, groupNamed } from './lock-keys.ts';
import type { Empty } from './messages/identity.ts';
import type {
  CreateGroupSnapshotRequest,
  GroupControllerGetCapabilitiesResponse,
  GroupSnapshotMessage,
  GroupSnapshotRequest,
  GroupSnapshotResponse,
} from './messages/snapshot.ts';
import { snapshotMessage, timestampOf } from './snapshots.ts';
import type { ControllerParts } from './volumes.ts';

export interface GroupControllerService {
  readonly GroupControllerGetCapabilities: Handler<Empty, GroupControllerGetCapabilitiesResponse>;
  readonly CreateVolumeGroupSnapshot: Handler<CreateGroupSnapshotRequest, GroupSnapshotResponse>;
  readonly DeleteVolumeGroupSnapshot: Handler<GroupSnapshotRequest, Empty>;
  readonly GetVolumeGroupSnapshot: Handler<GroupSnapshotRequest, GroupSnapshotResponse>;
}

/** The GroupController's calls: snapshots of several volumes at one instant. */
export function createGroupController({ repository, lock, asks, nodes }: ControllerParts): GroupControllerService {
  return {
    GroupControllerGetCapabilities: async () => ({
      capabilities: [{ rpc: { type: 'CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT' } }],
    }),

    async CreateVolumeGroupSnapshot(request, signal) {
      const name = requiredName(request.name, 'name');
      if (request.sourceVolumeIds.length === 0)
        throw new InvalidError(
          'source_volume_ids is missing: name the volumes whose content is to be kept at one instant',
        );
      const sources = [...new Set(request.sourceVolumeIds.map((id) => requiredName(id, 'source_volume_ids')))];
      const { parameters } = request;
      const group = await lock(groupNamed(name), () =>
        createGroupSnapshot(repository, { name, sources, parameters }, { asks, nodes, signal }),
      );
      return { groupSnapshot: groupMessage(group) };
    },

    async DeleteVolumeGroupSnapshot({ groupSnapshotId, snapshotIds }) {
      const id = requiredName(groupSnapshotId, 'group_snapshot_id');
      await lock(groupKey(id), () => deleteGroupSnapshot(repository, id, snapshotIds));
      return {};
    },

    async GetVolumeGroupSnapshot({ groupSnapshotId, snapshotIds }) {
      const id = requiredName(groupSnapshotId, 'group_snapshot_id');
      return { groupSnapshot: groupMessage(await readGroupSnapshot(repository, id, snapshotIds)) };
    },
  };
}

function groupMessage({ id, snapshots, created, ready }: GroupSnapshot): GroupSnapshotMessage {
  return {
    groupSnapshotId: id,
    snapshots: snapshots.map(snapshotMessage),
    creationTime: timestampOf(created),
    readyToUse: ready,
  };
}
