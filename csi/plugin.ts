import type { Asks } from '../controller/asks.ts';
import type { NodeObserver } from '../controller/nodes.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Check } from '../node/health.ts';
import type { NodeService } from '../node/service-types.ts';
import type { CallLog } from './call.ts';
import { createController } from './controller.ts';
import { createGroupController } from './group-controller.ts';
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
  /** Where this process creates and deletes volumes: how it knows which nodes are alive, and how it asks them. */
  readonly controller?: { readonly nodes: NodeObserver; readonly asks: Asks };
  /** Where it mounts them: what the cluster calls this node, its service, and what is looked at on it. */
  readonly node?: {
    readonly id: string;
    readonly service: NodeService;
    readonly health: () => Promise<{ readonly checks: readonly Check[] }>;
  };
  readonly log: CallLog;
}

/**
 * The CSI plugin of one process: a node's, the controller's, or both in one.
 * Errors: those of `startCsiServer`.
 */
export async function startPlugin(options: PluginOptions): Promise<CsiServer> {
  const { endpoint, version, repository, controller, node, log } = options;
  const lock = createKeyedLock();
  const parts = controller && {
    repository,
    lock,
    ...controller,
    ...(node && { discard: (id: string) => node.service.discard(id) }),
  };
  return startCsiServer({
    endpoint,
    services: {
      Identity: createIdentity({ version, controller: parts !== undefined }),
      ...(parts && { Controller: createController(parts), GroupController: createGroupController(parts) }),
      ...(node && { Node: createNode({ nodeId: node.id, repository, lock, ...node }) }),
    },
    log,
  });
}
