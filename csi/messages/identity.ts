export type Empty = Readonly<Record<string, never>>;

export interface GetPluginInfoResponse {
  readonly name: string;
  readonly vendorVersion: string;
}

export interface GetPluginCapabilitiesResponse {
  readonly capabilities: readonly PluginCapability[];
}

/** A service, or how volumes grow: of each capability one of the two. */
export type PluginCapability =
  | { readonly service: { readonly type: 'CONTROLLER_SERVICE' | 'GROUP_CONTROLLER_SERVICE' } }
  | { readonly volumeExpansion: { readonly type: 'ONLINE' } };

export interface ProbeResponse {
  readonly ready: { readonly value: boolean };
}
