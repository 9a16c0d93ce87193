/**
 * Messages as they arrive and leave: proto/csi.proto in camelCase. Text and lists that the caller left out are empty, messages
 * that it left out are null. 64-bit numbers arrive as decimal text (int64.ts reads them) and leave as numbers.
 */
export type Int64In = string;

export type StringMap = Readonly<Record<string, string>>;

export type AccessMode =
  | 'UNKNOWN'
  | 'SINGLE_NODE_WRITER'
  | 'SINGLE_NODE_READER_ONLY'
  | 'MULTI_NODE_READER_ONLY'
  | 'MULTI_NODE_SINGLE_WRITER'
  | 'MULTI_NODE_MULTI_WRITER'
  | 'SINGLE_NODE_SINGLE_WRITER'
  | 'SINGLE_NODE_MULTI_WRITER';

export interface VolumeCapability {
  readonly accessType?: 'block' | 'mount';
  readonly mount?: MountVolume;
  /** A mode that the protocol file doesn't know arrives as its number. */
  readonly accessMode: { readonly mode: AccessMode | number } | null;
}

export interface MountVolume {
  readonly fsType: string;
  readonly mountFlags: readonly string[];
  readonly volumeMountGroup: string;
}

export interface CapacityRange {
  readonly requiredBytes: Int64In;
  readonly limitBytes: Int64In;
}

export interface VolumeContentSource {
  readonly type?: 'snapshot' | 'volume';
  readonly snapshot?: { readonly snapshotId: string };
  readonly volume?: { readonly volumeId: string };
}

export interface VolumeMessage {
  readonly capacityBytes: number;
  readonly volumeId: string;
  readonly volumeContext: StringMap;
  readonly contentSource?: VolumeContentSource;
}

/** Of CSI 1.12. */
export interface VolumeConditionMessage {
  readonly abnormal: boolean;
  readonly message: string;
}
