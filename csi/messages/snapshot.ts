import type { StringMap } from './volume.ts';

/** google.protobuf.Timestamp. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanos: number;
}

export interface SnapshotMessage {
  readonly sizeBytes: number;
  readonly snapshotId: string;
  readonly sourceVolumeId: string;
  readonly creationTime: Timestamp;
  readonly readyToUse: boolean;
  readonly groupSnapshotId?: string;
}

export interface CreateSnapshotRequest {
  readonly sourceVolumeId: string;
  readonly name: string;
  readonly parameters: StringMap;
}

export interface SnapshotResponse {
  readonly snapshot: SnapshotMessage;
}

export interface SnapshotRequest {
  readonly snapshotId: string;
}

export interface ListSnapshotsRequest {
  readonly maxEntries: number;
  readonly startingToken: string;
  readonly sourceVolumeId: string;
  readonly snapshotId: string;
}

export interface ListSnapshotsResponse {
  readonly entries: readonly SnapshotResponse[];
  readonly nextToken: string;
}

export interface GroupSnapshotMessage {
  readonly groupSnapshotId: string;
  readonly snapshots: readonly SnapshotMessage[];
  readonly creationTime: Timestamp;
  readonly readyToUse: boolean;
}

export interface CreateGroupSnapshotRequest {
  readonly name: string;
  readonly sourceVolumeIds: readonly string[];
  readonly parameters: StringMap;
}

export interface GroupSnapshotResponse {
  readonly groupSnapshot: GroupSnapshotMessage;
}

export interface GroupSnapshotRequest {
  readonly groupSnapshotId: string;
  readonly snapshotIds: readonly string[];
}

export interface GroupControllerGetCapabilitiesResponse {
  readonly capabilities: readonly {
    readonly rpc: { readonly type: 'CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT' };
  }[];
}
