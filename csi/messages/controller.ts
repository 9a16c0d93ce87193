import type { CapacityRange, StringMap, VolumeCapability, VolumeContentSource, VolumeMessage } from './volume.ts';

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
  readonly entries: readonly { readonly volume: VolumeMessage }[];
  readonly nextToken: string;
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
  };
  /** Why nothing is confirmed. */
  readonly message?: string;
}

export type ControllerCapability = 'CREATE_DELETE_VOLUME' | 'LIST_VOLUMES' | 'SINGLE_NODE_MULTI_WRITER';

export interface ControllerGetCapabilitiesResponse {
  readonly capabilities: readonly { readonly rpc: { readonly type: ControllerCapability } }[];
}
