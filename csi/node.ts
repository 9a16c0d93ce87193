import { readVolume } from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { NodeService, Usage } from '../node/service-types.ts';
import { asksReadOnly, isExclusive } from './access.ts';
import type { Handler } from './call.ts';
import { absolutePath, requiredName, requiredPath } from './check.ts';
import { PreconditionError } from './errors.ts';
import type { KeyedLock } from './lock.ts';
import type { Empty } from './messages/identity.ts';
import type {
  NodeCapability,
  NodeGetCapabilitiesResponse,
  NodeGetInfoResponse,
  NodeGetVolumeStatsRequest,
  NodeGetVolumeStatsResponse,
  NodePublishVolumeRequest,
  NodeStageVolumeRequest,
  NodeUnpublishVolumeRequest,
  NodeUnstageVolumeRequest,
  VolumeUsage,
} from './messages/node.ts';

const capabilities: readonly NodeCapability[] = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'SINGLE_NODE_MULTI_WRITER',
];

export interface NodeCalls {
  readonly NodeGetInfo: Handler<Empty, NodeGetInfoResponse>;
  readonly NodeGetCapabilities: Handler<Empty, NodeGetCapabilitiesResponse>;
  readonly NodeStageVolume: Handler<NodeStageVolumeRequest, Empty>;
  readonly NodeUnstageVolume: Handler<NodeUnstageVolumeRequest, Empty>;
  readonly NodePublishVolume: Handler<NodePublishVolumeRequest, Empty>;
  readonly NodeUnpublishVolume: Handler<NodeUnpublishVolumeRequest, Empty>;
  readonly NodeGetVolumeStats: Handler<NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse>;
}

export interface NodeParts {
  /** What the cluster calls this node. */
  readonly nodeId: string;
  readonly repository: Repository;
  readonly service: NodeService;
  /** By volume id; one process has one. */
  readonly lock: KeyedLock;
}

/** The Node's calls. What a volume is stands in its record in the repository, not in the request. */
export function createNode({ nodeId, repository, service, lock }: NodeParts): NodeCalls {
  return {
    NodeGetInfo: async () => ({ nodeId }),

    NodeGetCapabilities: async () => ({ capabilities: capabilities.map((type) => ({ rpc: { type } })) }),

    async NodeStageVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
      requireCapability(request);
      await lock(id, async () => {
        const { dataset, version, kind, capacityBytes, settings } = await readVolume(repository, id);
        isExclusive(request.volumeCapability, kind);
        await service.stage({
          volume: id,
          dataset,
          version,
          kind,
          ...(kind === 'workspace' ? { capacityBytes } : {}),
          ...(settings.prefetch === undefined ? {} : { prefetch: settings.prefetch }),
          stagingPath,
        });
      });
      return {};
    },

    async NodeUnstageVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
      await lock(id, () => service.unstage(id, stagingPath));
      return {};
    },

    async NodePublishVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const targetPath = absolutePath(request.targetPath, 'target_path');
      requireCapability(request);
      if (request.stagingTargetPath === '')
        throw new PreconditionError('staging_target_path is missing: call NodeStageVolume first, and give its path');
      const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
      await lock(id, async () => {
        const { kind } = await readVolume(repository, id);
        const exclusive = isExclusive(request.volumeCapability, kind);
        const readOnly = kind === 'pinned' || request.readonly || asksReadOnly(request.volumeCapability);
        await service.publish({ volume: id, stagingPath, targetPath, readOnly, exclusive });
      });
      return {};
    },

    async NodeUnpublishVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const targetPath = absolutePath(request.targetPath, 'target_path');
      await lock(id, () => service.unpublish(id, targetPath));
      return {};
    },

    // Without the lock: it changes nothing, and must answer while a long call is under way.
    async NodeGetVolumeStats(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const path = requiredPath(request.volumePath, 'volume_path');
      const { bytes, inodes } = await service.stats(id, path);
      return { usage: [usageOf('BYTES', bytes), usageOf('INODES', inodes)] };
    },
  };
}

function requireCapability({ volumeCapability }: NodeStageVolumeRequest | NodePublishVolumeRequest): void {
  if (volumeCapability === null) throw new InvalidError('volume_capability is missing');
}

function usageOf(unit: VolumeUsage['unit'], { total, used, available }: Usage): VolumeUsage {
  return { unit, total, used, available };
}
