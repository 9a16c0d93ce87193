export type Empty = Readonly<Record<string, never>>;

export interface GetPluginInfoResponse {
  readonly name: string;
  readonly vendorVersion: string;
}

export interface GetPluginCapabilitiesResponse {
  readonly capabilities: readonly { readonly service: { readonly type: 'CONTROLLER_SERVICE' } }[];
}

export interface ProbeResponse {
  readonly ready: { readonly value: boolean };
}
