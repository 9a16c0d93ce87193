/** What is wrong with a volume, as CSI 1.13 tells it. */
export interface VolumeHealthMessage {
  readonly volumeId: string;
  /** Empty where nothing is. */
  readonly healthStatuses: readonly VolumeHealthEntry[];
}

export interface VolumeHealthEntry {
  readonly status: 'DEGRADED' | 'INACCESSIBLE' | 'DATA_LOSS';
  /** In CamelCase, for machines. */
  readonly reason: string;
  readonly message: string;
}

export interface GetVolumeHealthRequest {
  readonly volumeId: string;
}

export interface GetVolumeHealthResponse {
  readonly volumeHealth: VolumeHealthMessage;
}

export interface ListVolumeHealthRequest {
  readonly maxEntries: number;
  readonly startingToken: string;
}

export interface ListVolumeHealthResponse {
  readonly entries: readonly VolumeHealthMessage[];
  readonly nextToken: string;
}

export interface NodeGetVolumeHealthRequest {
  readonly volumeId: string;
  readonly volumePublishPath: string;
  readonly stagingTargetPath: string;
}

export interface NodeGetStorageHealthResponse {
  readonly backendHealth: readonly StorageHealthEntry[];
}

export interface StorageHealthEntry {
  readonly status: 'STORAGE_DEGRADED' | 'STORAGE_UNREACHABLE';
  readonly reason: string;
  readonly message: string;
}
