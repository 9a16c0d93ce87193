import { readMutable, readParameters, type VolumeParameters } from '../controller/parameters.ts';
import { slotOf, slotOfId, type Volume } from '../controller/volume.ts';
import {
  createVolume,
  deleteVolume,
  differenceOf,
  differingSetting,
  listVolumes,
  readVolume,
} from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { isExclusive, kindFor } from './access.ts';
import type { Handler } from './call.ts';
import { requiredName } from './check.ts';
import { sizeOf } from './int64.ts';
import type { KeyedLock } from './lock.ts';
import type {
  ControllerCapability,
  ControllerGetCapabilitiesResponse,
  CreateVolumeRequest,
  CreateVolumeResponse,
  DeleteVolumeRequest,
  ListVolumesRequest,
  ListVolumesResponse,
  ValidateVolumeCapabilitiesRequest,
  ValidateVolumeCapabilitiesResponse,
} from './messages/controller.ts';
import type { Empty } from './messages/identity.ts';
import type { CapacityRange, StringMap, VolumeMessage } from './messages/volume.ts';

const capabilities: readonly ControllerCapability[] = [
  'CREATE_DELETE_VOLUME',
  'LIST_VOLUMES',
  'SINGLE_NODE_MULTI_WRITER',
];

export interface ControllerService {
  readonly ControllerGetCapabilities: Handler<Empty, ControllerGetCapabilitiesResponse>;
  readonly CreateVolume: Handler<CreateVolumeRequest, CreateVolumeResponse>;
  readonly DeleteVolume: Handler<DeleteVolumeRequest, Empty>;
  readonly ListVolumes: Handler<ListVolumesRequest, ListVolumesResponse>;
  readonly ValidateVolumeCapabilities: Handler<ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse>;
}

export interface ControllerParts {
  readonly repository: Repository;
  /** By volume id; one process has one. */
  readonly lock: KeyedLock;
  /** Where this process is a node too: drops what that keeps of a volume, or throws an InUseError. */
  readonly discard?: (volume: string) => Promise<void>;
}

/** The Controller's calls over a repository. */
export function createController({ repository, lock, discard }: ControllerParts): ControllerService {
  return {
    ControllerGetCapabilities: async () => ({ capabilities: capabilities.map((type) => ({ rpc: { type } })) }),

    async CreateVolume(request) {
      const name = requiredName(request.name, 'name');
      const kind = kindFor(request.volumeCapabilities);
      refuseSource(request);
      const parameters = readParameters(request.parameters, { mutable: request.mutableParameters });
      const capacity = rangeOf(request.capacityRange);
      const volume = await lock(slotOf(name), () => createVolume(repository, { name, kind, ...parameters, capacity }));
      return { volume: messageOf(volume) };
    },

    async DeleteVolume(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      await lock(id, async () => {
        // Before the record: a call that is cut short here is repeated, and a volume that is in use here stays whole. Ids that are
        // no volumes' may be names of something else that the node keeps.
        if (slotOfId(id) !== undefined) await discard?.(id);
        await deleteVolume(repository, id);
      });
      return {};
    },

    async ListVolumes({ maxEntries, startingToken }) {
      if (maxEntries < 0) throw new InvalidError(`max_entries is ${maxEntries}: give 0 for no limit, or more`);
      const { volumes, next = '' } = await listVolumes(repository, {
        ...(startingToken === '' ? {} : { after: startingToken }),
        ...(maxEntries === 0 ? {} : { limit: maxEntries }),
      });
      return { entries: volumes.map((volume) => ({ volume: messageOf(volume) })), nextToken: next };
    },

    async ValidateVolumeCapabilities(request) {
      const id = requiredName(request.volumeId, 'volume_id');
      if (request.volumeCapabilities.length === 0) throw new InvalidError('volume_capabilities is missing');
      const volume = await readVolume(repository, id);
      const fault = faultOf(volume, request);
      if (fault !== undefined) return { message: fault };
      const { volumeContext, volumeCapabilities, parameters } = request;
      return { confirmed: { volumeContext, volumeCapabilities, parameters } };
    },
  };
}

/** What of the request doesn't hold for the volume; undefined where all does. */
function faultOf(volume: Volume, request: ValidateVolumeCapabilitiesRequest): string | undefined {
  try {
    for (const capability of request.volumeCapabilities) isExclusive(capability, volume.kind);
    checkMutable(volume, request.mutableParameters);
    if (Object.keys(request.parameters).length > 0)
      checkParameters(volume, readParameters(request.parameters, { restored: true }));
    const context = contextOf(volume);
    for (const [key, value] of Object.entries(request.volumeContext)) {
      if (key in context && context[key] !== value)
        throw new InvalidError(`the volume's ${key} is ${context[key]}, not ${value}`);
    }
    return undefined;
  } catch (error) {
    if (error instanceof InvalidError) return error.message;
    throw error;
  }
}

function checkParameters(volume: Volume, { source, settings }: VolumeParameters): void {
  const difference = differenceOf(volume, { kind: volume.kind, capacity: {}, source, settings, origin: volume.source });
  if (difference !== undefined) throw new InvalidError(`the volume is another: ${difference}`);
}

/** What may change is compared with what holds now. */
function checkMutable({ settings }: Volume, parameters: StringMap): void {
  const difference = differingSetting(settings, { ...settings, ...readMutable(parameters).settings });
  if (difference !== undefined) throw new InvalidError(`the volume is another: ${difference}`);
}

function refuseSource({ volumeContentSource }: CreateVolumeRequest): void {
  if (volumeContentSource === null) return;
  throw new InvalidError('volume_content_source is not served: name a dataset and a version by parameters');
}

/** Zero says nothing about a bound. */
function rangeOf(range: CapacityRange | null): { required?: number; limit?: number } {
  const required = sizeOf(range?.requiredBytes ?? '0', 'capacity_range.required_bytes');
  const limit = sizeOf(range?.limitBytes ?? '0', 'capacity_range.limit_bytes');
  return { ...(required === 0 ? {} : { required }), ...(limit === 0 ? {} : { limit }) };
}

function messageOf(volume: Volume): VolumeMessage {
  return { volumeId: volume.id, capacityBytes: volume.capacityBytes, volumeContext: contextOf(volume) };
}

/** For people who look at the PersistentVolume; the record in the repository is what counts. */
function contextOf({ dataset, base, kind, asked: { settings } }: Volume): StringMap {
  // What it was created as: an answer is the same when it is repeated, whatever became of the volume since.
  return { dataset, version: base, kind, ...(settings.prefetch !== undefined && { prefetch: settings.prefetch }) };
}
