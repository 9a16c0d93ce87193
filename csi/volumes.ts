import type { Asks } from '../controller/asks.ts';
import { conditionOf } from '../controller/condition.ts';
import { freeRoom } from '../controller/free-room.ts';
import { expandVolume, modifyVolume } from '../controller/modify.ts';
import type { NodeObserver } from '../controller/nodes.ts';
import { readParameters } from '../controller/parameters.ts';
import type { Volume } from '../controller/volume.ts';
import { createVolume, deleteVolume, listVolumes, readVolume } from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import { mapAhead } from '../dataset/map-ahead.ts';
import type { Repository } from '../dataset/repository.ts';
import { isExclusive, kindFor } from './access.ts';
import type { Handler } from './call.ts';
import { requiredName } from './check.ts';
import { originOf } from './content-source.ts';
import { recordCondition, recordHealth } from './health.ts';
import type { KeyedLock } from './lock.ts';
import { volumeKey, volumeNamed } from './lock-keys.ts';
import type {
  ControllerExpandVolumeRequest,
  ControllerExpandVolumeResponse,
  ControllerGetVolumeRequest,
  ControllerModifyVolumeRequest,
  CreateVolumeRequest,
  CreateVolumeResponse,
  DeleteVolumeRequest,
  GetCapacityRequest,
  GetCapacityResponse,
  ListVolumesRequest,
  ListVolumesResponse,
  ValidateVolumeCapabilitiesRequest,
  ValidateVolumeCapabilitiesResponse,
  VolumeEntry,
} from './messages/controller.ts';
import type {
  GetVolumeHealthRequest,
  GetVolumeHealthResponse,
  ListVolumeHealthRequest,
  ListVolumeHealthResponse,
  VolumeHealthMessage,
} from './messages/health.ts';
import type { Empty } from './messages/identity.ts';
import { pageOf } from './page.ts';
import { rangeOf } from './range.ts';
import { faultOf } from './validate.ts';
import { messageOf } from './volume-message.ts';

/** The Controller's calls about volumes. */
export interface VolumeCalls {
  readonly CreateVolume: Handler<CreateVolumeRequest, CreateVolumeResponse>;
  readonly DeleteVolume: Handler<DeleteVolumeRequest, Empty>;
  readonly ListVolumes: Handler<ListVolumesRequest, ListVolumesResponse>;
  readonly ControllerGetVolume: Handler<ControllerGetVolumeRequest, VolumeEntry>;
  readonly ControllerGetVolumeHealth: Handler<GetVolumeHealthRequest, GetVolumeHealthResponse>;
  readonly ControllerListVolumeHealth: Handler<ListVolumeHealthRequest, ListVolumeHealthResponse>;
  readonly ValidateVolumeCapabilities: Handler<ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse>;
  readonly ControllerModifyVolume: Handler<ControllerModifyVolumeRequest, Empty>;
  readonly ControllerExpandVolume: Handler<ControllerExpandVolumeRequest, ControllerExpandVolumeResponse>;
  readonly GetCapacity: Handler<GetCapacityRequest, GetCapacityResponse>;
}

export interface ControllerParts {
  readonly repository: Repository;
  /** By what lock-keys.ts says; one process has one. */
  readonly lock: KeyedLock;
  /** Tells which nodes are alive. */
  readonly nodes: NodeObserver;
  /** Asks nodes for what only they can do. */
  readonly asks: Asks;
  /** Where this process is a node too: drops what that keeps of a volume, or throws an InUseError. */
  readonly discard?: (volume: string) => Promise<void>;
}

/** Volumes of a list that are looked at ahead. */
const LOOKED_AHEAD = 16;

export function createVolumeCalls(parts: ControllerParts): VolumeCalls {
  const { repository, lock, nodes, discard } = parts;
  const entryOf = async (volume: Volume): Promise<VolumeEntry> => ({
    volume: messageOf(volume),
    status: { volumeCondition: recordCondition(await conditionOf(repository, volume, nodes)) },
  });
  const healthOf = async (volume: Volume): Promise<VolumeHealthMessage> =>
    recordHealth(volume.id, await conditionOf(repository, volume, nodes));
  /** A page of volumes, each as `look` sees it. */
  const page = async <T>(request: ListVolumesRequest, signal: AbortSignal, look: (volume: Volume) => Promise<T>) => {
    const { volumes, next = '' } = await listVolumes(repository, { ...pageOf(request), signal });
    const entries: T[] = [];
    for await (const entry of mapAhead(volumes, LOOKED_AHEAD, look)) {
      signal.throwIfAborted();
      entries.push(entry);
    }
    return { entries, nextToken: next };
  };

  return {
    async CreateVolume(request, signal) {
      const name = requiredName(request.name, 'name');
      const kind = kindFor(request.volumeCapabilities);
      const restored = request.volumeContentSource !== null;
      const parameters = readParameters(request.parameters, { mutable: request.mutableParameters, restored });
      const capacity = rangeOf(request.capacityRange);
      const volume = await lock(volumeNamed(name), async () => {
        const origin = await originOf({ ...parts, signal }, name, request.volumeContentSource);
        return await createVolume(repository, { name, kind, ...parameters, capacity, ...(origin && { origin }) });
      });
      return { volume: messageOf(volume) };
    },

    async DeleteVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      await lock(volumeKey(id), () => deleteVolume(repository, id, { nodes, ...(discard && { discard }) }));
      return {};
    },

    ListVolumes: (request, signal) => page(request, signal, entryOf),

    async ControllerGetVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      return await entryOf(await readVolume(repository, id));
    },

    async ControllerGetVolumeHealth(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      return { volumeHealth: await healthOf(await readVolume(repository, id)) };
    },

    async ControllerListVolumeHealth(request, signal) {
      const { entries, nextToken } = await page(request, signal, healthOf);
      return { entries: entries.filter(({ healthStatuses }) => healthStatuses.length > 0), nextToken };
    },

    async ValidateVolumeCapabilities(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      if (request.volumeCapabilities.length === 0) throw new InvalidError('volume_capabilities is missing');
      const volume = await readVolume(repository, id);
      const fault = faultOf(volume, request);
      if (fault !== undefined) return { message: fault };
      const { volumeContext, volumeCapabilities, parameters, mutableParameters } = request;
      return { confirmed: { volumeContext, volumeCapabilities, parameters, mutableParameters } };
    },

    async ControllerModifyVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      await lock(volumeKey(id), () => modifyVolume(repository, id, request.mutableParameters));
      return {};
    },

    async ControllerExpandVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      const range = rangeOf(request.capacityRange);
      if (range.required === undefined && range.limit === undefined)
        throw new InvalidError('capacity_range is missing: say how large the volume is to be');
      const { volumeCapability } = request;
      return await lock(volumeKey(id), async () => {
        const { kind } = await readVolume(repository, id);
        if (volumeCapability !== null) isExclusive(volumeCapability, kind);
        const { capacityBytes } = await expandVolume(repository, id, range);
        // Of a pinned volume the size is only said: there is nothing that could grow.
        return { capacityBytes, nodeExpansionRequired: kind === 'workspace' };
      });
    },

    async GetCapacity(request) {
      const { volumeCapabilities, parameters } = request;
      const kind = volumeCapabilities.length === 0 ? 'workspace' : kindFor(volumeCapabilities);
      if (Object.keys(parameters).length > 0) readParameters(parameters, { restored: true });
      const { available, minimum, maximum } = await freeRoom(nodes, { kind });
      return {
        availableCapacity: available,
        maximumVolumeSize: { value: maximum },
        minimumVolumeSize: { value: minimum },
      };
    },
  };
}
