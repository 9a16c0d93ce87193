import type { CapacityRange, StringMap, VolumeCapability, VolumeConditionMessage } from './volume.ts';

export interface NodeStageVolumeRequest {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly volumeCapability: VolumeCapability | null;
  readonly volumeContext: StringMap;
}

export interface NodeUnstageVolumeRequest {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
}

export interface NodePublishVolumeRequest {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly targetPath: string;
  readonly volumeCapability: VolumeCapability | null;
  readonly readonly: boolean;
  readonly volumeContext: StringMap;
}

export interface NodeUnpublishVolumeRequest {
  readonly volumeId: string;
  readonly targetPath: string;
}

export interface NodeGetVolumeStatsRequest {
  readonly volumeId: string;
  readonly volumePath: string;
}

export interface NodeGetVolumeStatsResponse {
  readonly usage: readonly VolumeUsage[];
  readonly volumeCondition: VolumeConditionMessage;
}

export interface VolumeUsage {
  readonly unit: 'BYTES' | 'INODES';
  readonly total: number;
  readonly used: number;
  readonly available: number;
}

export interface NodeExpandVolumeRequest {
  readonly volumeId: string;
  readonly volumePath: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapability: VolumeCapability | null;
}

export interface NodeExpandVolumeResponse {
  readonly capacityBytes: number;
}

export type NodeCapability =
  | 'STAGE_UNSTAGE_VOLUME'
  | 'GET_VOLUME_STATS'
  | 'EXPAND_VOLUME'
  | 'VOLUME_CONDITION'
  | 'SINGLE_NODE_MULTI_WRITER'
  | 'VOLUME_MOUNT_GROUP'
  | 'GET_VOLUME_HEALTH'
  | 'GET_STORAGE_HEALTH';

export interface NodeGetCapabilitiesResponse {
  readonly capabilities: readonly { readonly rpc: { readonly type: NodeCapability } }[];
}

export interface NodeGetInfoResponse {
  readonly nodeId: string;
}
