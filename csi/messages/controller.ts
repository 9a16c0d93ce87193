import type {
  CapacityRange,
  StringMap,
  VolumeCapability,
  VolumeConditionMessage,
  VolumeContentSource,
  VolumeMessage,
} from './volume.ts';

export interface CreateVolumeRequest {
  readonly name: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
  readonly volumeContentSource: VolumeContentSource | null;
  readonly mutableParameters: StringMap;
}

export interface CreateVolumeResponse {
  readonly volume: VolumeMessage;
}

export interface DeleteVolumeRequest {
  readonly volumeId: string;
}

export interface ListVolumesRequest {
  readonly maxEntries: number;
  readonly startingToken: string;
}

export interface ListVolumesResponse {
  readonly entries: readonly VolumeEntry[];
  readonly nextToken: string;
}

export interface VolumeEntry {
  readonly volume: VolumeMessage;
  readonly status: { readonly volumeCondition: VolumeConditionMessage };
}

export interface ControllerGetVolumeRequest {
  readonly volumeId: string;
}

export interface ControllerModifyVolumeRequest {
  readonly volumeId: string;
  readonly mutableParameters: StringMap;
}

export interface ControllerExpandVolumeRequest {
  readonly volumeId: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapability: VolumeCapability | null;
}

export interface ControllerExpandVolumeResponse {
  readonly capacityBytes: number;
  readonly nodeExpansionRequired: boolean;
}

export interface GetCapacityRequest {
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
}

export interface GetCapacityResponse {
  readonly availableCapacity: number;
  readonly maximumVolumeSize: { readonly value: number };
  readonly minimumVolumeSize: { readonly value: number };
}

export interface ValidateVolumeCapabilitiesRequest {
  readonly volumeId: string;
  readonly volumeContext: StringMap;
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
  readonly mutableParameters: StringMap;
}

export interface ValidateVolumeCapabilitiesResponse {
  readonly confirmed?: {
    readonly volumeContext: StringMap;
    readonly volumeCapabilities: readonly VolumeCapability[];
    readonly parameters: StringMap;
    readonly mutableParameters: StringMap;
  };
  /** Why nothing is confirmed. */
  readonly message?: string;
}

export type ControllerCapability =
  | 'CREATE_DELETE_VOLUME'
  | 'LIST_VOLUMES'
  | 'GET_CAPACITY'
  | 'CREATE_DELETE_SNAPSHOT'
  | 'LIST_SNAPSHOTS'
  | 'GET_SNAPSHOT'
  | 'CLONE_VOLUME'
  | 'EXPAND_VOLUME'
  | 'VOLUME_CONDITION'
  | 'GET_VOLUME'
  | 'GET_VOLUME_HEALTH'
  | 'LIST_VOLUME_HEALTH'
  | 'SINGLE_NODE_MULTI_WRITER'
  | 'MODIFY_VOLUME';

export interface ControllerGetCapabilitiesResponse {
  readonly capabilities: readonly { readonly rpc: { readonly type: ControllerCapability } }[];
}
