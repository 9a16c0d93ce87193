import { CapacityError } from '../controller/capacity.ts';
import { volumeToStage } from '../controller/modify.ts';
import { readVolume } from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Check } from '../node/health.ts';
import type { NodeService, Usage } from '../node/service-types.ts';
import { asksReadOnly, isExclusive, mountGroupOf } from './access.ts';
import type { Handler } from './call.ts';
import { absolutePath, requiredName, requiredPath } from './check.ts';
import { ephemeralRequestOf } from './ephemeral.ts';
import { PreconditionError } from './errors.ts';
import { nodeCondition, nodeHealth, storageHealth } from './health.ts';
import type { KeyedLock } from './lock.ts';
import { volumeKey } from './lock-keys.ts';
import type {
  GetVolumeHealthResponse,
  NodeGetStorageHealthResponse,
  NodeGetVolumeHealthRequest,
} from './messages/health.ts';
import type { Empty } from './messages/identity.ts';
import type {
  NodeCapability,
  NodeExpandVolumeRequest,
  NodeExpandVolumeResponse,
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
import { isEphemeral, podOf } from './pod.ts';
import { rangeOf } from './range.ts';
import { stageRequestOf } from './stage-request.ts';

const capabilities: readonly NodeCapability[] = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'EXPAND_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
  'VOLUME_MOUNT_GROUP',
  // The condition is CSI 1.12's, health that of 1.13.
  'VOLUME_CONDITION',
  'GET_VOLUME_HEALTH',
  'GET_STORAGE_HEALTH',
];

export interface NodeCalls {
  readonly NodeGetInfo: Handler<Empty, NodeGetInfoResponse>;
  readonly NodeGetCapabilities: Handler<Empty, NodeGetCapabilitiesResponse>;
  readonly NodeStageVolume: Handler<NodeStageVolumeRequest, Empty>;
  readonly NodeUnstageVolume: Handler<NodeUnstageVolumeRequest, Empty>;
  readonly NodePublishVolume: Handler<NodePublishVolumeRequest, Empty>;
  readonly NodeUnpublishVolume: Handler<NodeUnpublishVolumeRequest, Empty>;
  readonly NodeExpandVolume: Handler<NodeExpandVolumeRequest, NodeExpandVolumeResponse>;
  readonly NodeGetVolumeStats: Handler<NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse>;
  readonly NodeGetVolumeHealth: Handler<NodeGetVolumeHealthRequest, GetVolumeHealthResponse>;
  readonly NodeGetStorageHealth: Handler<Empty, NodeGetStorageHealthResponse>;
}

export interface NodeParts {
  /** What the cluster calls this node. */
  readonly nodeId: string;
  readonly repository: Repository;
  readonly service: NodeService;
  /** What is looked at on this node, and how it is. */
  readonly health: () => Promise<{ readonly checks: readonly Check[] }>;
  /** By what lock-keys.ts says; one process has one. */
  readonly lock: KeyedLock;
}

/** The Node's calls. What a volume is stands in its record in the repository, not in the request; an ephemeral one has none. */
export function createNode({ nodeId, repository, service, health, lock }: NodeParts): NodeCalls {
  const publishEphemeral = async (request: NodePublishVolumeRequest, id: string, targetPath: string) => {
    const known = service.staged(id);
    await service.publishEphemeral(
      await ephemeralRequestOf(repository, request, { id, targetPath, ...(known && { known }) }),
    );
  };
  const publishStaged = async (request: NodePublishVolumeRequest, id: string, targetPath: string) => {
    const { volumeCapability, volumeContext, readonly } = request;
    const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
    const mountGroup = mountGroupOf(volumeCapability);
    const pod = podOf(volumeContext);
    // What is staged needs no repository, so that pods come up while that is away.
    const { kind } = service.staged(id) ?? (await readVolume(repository, id));
    const exclusive = isExclusive(volumeCapability, kind);
    await service.publish({
      volume: id,
      stagingPath,
      targetPath,
      readOnly: kind === 'pinned' || readonly || asksReadOnly(volumeCapability),
      exclusive,
      ...(mountGroup !== undefined && { mountGroup }),
      ...(pod !== undefined && { pod }),
    });
  };

  return {
    NodeGetInfo: async () => ({ nodeId }),

    NodeGetCapabilities: async () => ({ capabilities: capabilities.map((type) => ({ rpc: { type } })) }),

    async NodeStageVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
      requireCapability(request);
      const mountGroup = mountGroupOf(request.volumeCapability);
      await lock(volumeKey(id), async () => {
        const there = service.staged(id);
        const known = there?.state === 'staged' ? there : undefined;
        // Asked again for what is staged, nothing is looked up anew: its record says what is mounted.
        const volume = await (known === undefined ? volumeToStage(repository, id) : readVolume(repository, id));
        isExclusive(request.volumeCapability, volume.kind);
        await service.stage(
          stageRequestOf(volume, {
            stagingPath,
            ...(mountGroup !== undefined && { mountGroup }),
            ...(known !== undefined && { known }),
          }),
        );
      });
      return {};
    },

    async NodeUnstageVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const stagingPath = absolutePath(request.stagingTargetPath, 'staging_target_path');
      await lock(volumeKey(id), () => service.unstage(id, stagingPath));
      return {};
    },

    async NodePublishVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const targetPath = absolutePath(request.targetPath, 'target_path');
      requireCapability(request);
      if (isEphemeral(request.volumeContext)) {
        await lock(volumeKey(id), () => publishEphemeral(request, id, targetPath));
        return {};
      }
      if (request.stagingTargetPath === '')
        throw new PreconditionError('staging_target_path is missing: call NodeStageVolume first, and give its path');
      await lock(volumeKey(id), () => publishStaged(request, id, targetPath));
      return {};
    },

    async NodeUnpublishVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const targetPath = absolutePath(request.targetPath, 'target_path');
      await lock(volumeKey(id), () => service.unpublish(id, targetPath));
      return {};
    },

    async NodeExpandVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const path = requiredPath(request.volumePath, 'volume_path');
      const { required = 0, limit = Number.POSITIVE_INFINITY } = rangeOf(request.capacityRange);
      return await lock(volumeKey(id), async () => {
        const { kind, capacityBytes } = await readVolume(repository, id);
        if (request.volumeCapability !== null) isExclusive(request.volumeCapability, kind);
        if (required > capacityBytes || capacityBytes > limit)
          throw new CapacityError(
            `volume ${JSON.stringify(id)} has ${capacityBytes} bytes, which is not what is asked for: call ControllerExpandVolume first`,
            { facts: { volume: id, capacityBytes } },
          );
        const room = await service.expand(id, path, capacityBytes);
        return { capacityBytes: kind === 'workspace' ? room : capacityBytes };
      });
    },

    // Without the lock, as what follows: it changes nothing, and must answer while a long call is under way.
    async NodeGetVolumeStats(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const path = requiredPath(request.volumePath, 'volume_path');
      const { bytes, inodes } = await service.stats(id, path);
      const condition = await service.condition(id);
      return {
        usage: [usageOf('BYTES', bytes), usageOf('INODES', inodes)],
        volumeCondition: nodeCondition(condition),
      };
    },

    async NodeGetVolumeHealth(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      return { volumeHealth: nodeHealth(id, await service.condition(id)) };
    },

    async NodeGetStorageHealth() {
      const { checks } = await health();
      return { backendHealth: storageHealth(checks) };
    },
  };
}

function requireCapability({ volumeCapability }: NodeStageVolumeRequest | NodePublishVolumeRequest): void {
  if (volumeCapability === null) throw new InvalidError('volume_capability is missing');
}

function usageOf(unit: VolumeUsage['unit'], { total, used, available }: Usage): VolumeUsage {
  return { unit, total, used, available };
}
