import type { Handler } from './call.ts';
import type { ControllerCapability, ControllerGetCapabilitiesResponse } from './messages/controller.ts';
import type { Empty } from './messages/identity.ts';
import { createSnapshotCalls, type SnapshotCalls } from './snapshots.ts';
import { type ControllerParts, createVolumeCalls, type VolumeCalls } from './volumes.ts';

const capabilities: readonly ControllerCapability[] = [
  'CREATE_DELETE_VOLUME',
  'LIST_VOLUMES',
  'GET_VOLUME',
  'GET_CAPACITY',
  'CLONE_VOLUME',
  'EXPAND_VOLUME',
  'MODIFY_VOLUME',
  'CREATE_DELETE_SNAPSHOT',
  'LIST_SNAPSHOTS',
  'GET_SNAPSHOT',
  'SINGLE_NODE_MULTI_WRITER',
  // The condition is CSI 1.12's, health that of 1.13: who knows the one does not ask for the other.
  'VOLUME_CONDITION',
  'GET_VOLUME_HEALTH',
  'LIST_VOLUME_HEALTH',
];

export interface ControllerService extends VolumeCalls, SnapshotCalls {
  readonly ControllerGetCapabilities: Handler<Empty, ControllerGetCapabilitiesResponse>;
}

/** The Controller's calls over a repository. */
export function createController(parts: ControllerParts): ControllerService {
  return {
    ControllerGetCapabilities: async () => ({ capabilities: capabilities.map((type) => ({ rpc: { type } })) }),
    ...createVolumeCalls(parts),
    ...createSnapshotCalls(parts),
  };
}
