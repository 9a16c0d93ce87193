import type { Repository } from '../dataset/repository.ts';
import type { NodeService } from '../node/service-types.ts';
import type { CallLog } from './call.ts';
import { createController } from './controller.ts';
import { createIdentity } from './identity.ts';
import { createKeyedLock } from './lock.ts';
import { createNode } from './node.ts';
import { type CsiServer, startCsiServer } from './server.ts';

export interface PluginOptions {
  /** `unix:///run/csi/csi.sock`, as CSI_ENDPOINT has it. */
  readonly endpoint: string;
  /** Larder's. */
  readonly version: string;
  /** Where volumes are recorded and their datasets are. */
  readonly repository: Repository;
  /** Whether this process creates and deletes volumes. */
  readonly controller: boolean;
  /** Whether it mounts them, and where: what the cluster calls this node, and the node's service. */
  readonly node?: { readonly id: string; readonly service: NodeService };
  readonly log: CallLog;
}

/**
 * The CSI plugin of one process: a node's, the controller's, or both in one.
 * Errors: those of `startCsiServer`.
 */
export async function startPlugin(options: PluginOptions): Promise<CsiServer> {
  const { endpoint, version, repository, controller, node, log } = options;
  const lock = createKeyedLock();
  return startCsiServer({
    endpoint,
    services: {
      Identity: createIdentity({ version, controller }),
      ...(controller
        ? { Controller: createController({ repository, lock, discard: node && ((id) => node.service.discard(id)) }) }
        : {}),
      ...(node === undefined ? {} : { Node: createNode({ nodeId: node.id, repository, service: node.service, lock }) }),
    },
    log,
  });
}
