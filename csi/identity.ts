import type { Handler } from './call.ts';
import type {
  Empty,
  GetPluginCapabilitiesResponse,
  GetPluginInfoResponse,
  PluginCapability,
  ProbeResponse,
} from './messages/identity.ts';

/** Clusters name the plugin by it: in a StorageClass as `provisioner`, in a CSIDriver as its name. */
export const PLUGIN_NAME = 'csi.larder.dev';

const controlling: readonly PluginCapability[] = [
  { service: { type: 'CONTROLLER_SERVICE' } },
  { service: { type: 'GROUP_CONTROLLER_SERVICE' } },
];

export interface IdentityService {
  readonly GetPluginInfo: Handler<Empty, GetPluginInfoResponse>;
  readonly GetPluginCapabilities: Handler<Empty, GetPluginCapabilitiesResponse>;
  readonly Probe: Handler<Empty, ProbeResponse>;
}

/** @param options.version of Larder; `controller` where this process answers the Controller's calls too. */
export function createIdentity(options: { readonly version: string; readonly controller: boolean }): IdentityService {
  return {
    GetPluginInfo: async () => ({ name: PLUGIN_NAME, vendorVersion: options.version }),
    GetPluginCapabilities: async () => ({
      capabilities: [...(options.controller ? controlling : []), { volumeExpansion: { type: 'ONLINE' } }],
    }),
    // It answers, so it is ready. A repository that is away must not fail the probe: the plugin would be restarted for it, and
    // what is staged reads on without a repository.
    Probe: async () => ({ ready: { value: true } }),
  };
}
