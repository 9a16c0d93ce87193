import { readMutable, readParameters } from '../controller/parameters.ts';
import type { Volume } from '../controller/volume.ts';
import { differenceOf, differingSetting } from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import { isExclusive } from './access.ts';
import type { ValidateVolumeCapabilitiesRequest } from './messages/controller.ts';
import type { StringMap } from './messages/volume.ts';
import { contextOf } from './volume-message.ts';

/** What of the request doesn't hold for the volume; undefined where all does. */
export function faultOf(volume: Volume, request: ValidateVolumeCapabilitiesRequest): string | undefined {
  try {
    for (const capability of request.volumeCapabilities) isExclusive(capability, volume.kind);
    checkMutable(volume, request.mutableParameters);
    checkParameters(volume, request.parameters);
    const context = contextOf(volume);
    for (const [key, value] of Object.entries(request.volumeContext)) {
      if (Object.hasOwn(context, key) && context[key] !== value)
        throw new InvalidError(`the volume's ${key} is ${context[key]}, not ${value}`);
    }
    return undefined;
  } catch (error) {
    if (error instanceof InvalidError) return error.message;
    throw error;
  }
}

function checkParameters(volume: Volume, parameters: StringMap): void {
  if (Object.keys(parameters).length === 0) return;
  const { source, settings } = readParameters(parameters, { restored: true });
  const difference = differenceOf(volume, { kind: volume.kind, capacity: {}, source, settings, origin: volume.source });
  if (difference !== undefined) throw new InvalidError(`the volume is another: ${difference}`);
}

/** What may change is compared with what holds now. */
function checkMutable({ settings }: Volume, parameters: StringMap): void {
  const difference = differingSetting(settings, { ...settings, ...readMutable(parameters).settings });
  if (difference !== undefined) throw new InvalidError(`the volume is another: ${difference}`);
}
