import { status } from '@grpc/grpc-js';
import { CapacityError } from '../controller/capacity.ts';
import { PageError } from '../controller/record-store.ts';
import { DiskFullError, type ErrorKind, isDiskFull, LarderError } from '../dataset/errors.ts';
import { VolumeHeldError } from '../dataset/volume-terms.ts';
import { PermissionError } from '../node/rights.ts';
import { InUseError } from '../node/service-types.ts';
import { CapabilityError } from './access.ts';
import { PendingError, PreconditionError } from './errors.ts';
import { shortened } from './text.ts';

/** The status that answers a failed call. */
export interface CallStatus {
  readonly code: status;
  readonly details: string;
}

const byKind: Record<Exclude<ErrorKind, 'conflict'>, status> = {
  'not-found': status.NOT_FOUND,
  invalid: status.INVALID_ARGUMENT,
  unavailable: status.UNAVAILABLE,
  corrupt: status.DATA_LOSS,
};

/** Calls that make something: a conflict there means that it exists with other properties. */
const making: ReadonlySet<string> = new Set([
  'CreateVolume',
  'CreateSnapshot',
  'CreateVolumeGroupSnapshot',
  'NodeStageVolume',
  'NodePublishVolume',
]);

/** Calls by which a node is to use a volume: that it cannot be used so is no fault of the request as such. */
const using: ReadonlySet<string> = new Set(['NodeStageVolume', 'NodePublishVolume']);

/** A status travels in a header, and headers have a limit; in characters. */
const DETAILS_LIMIT = 2000;

/** The one map from what went wrong to a gRPC status. `method` is the call's name, such as `CreateVolume`. */
export function statusOf(error: unknown, method: string): CallStatus {
  const message = error instanceof Error ? error.message : String(error);
  return { code: codeOf(error, method), details: shortened(message, DETAILS_LIMIT) };
}

function codeOf(error: unknown, method: string): status {
  if (error instanceof PermissionError) return status.PERMISSION_DENIED;
  if (error instanceof DiskFullError || isDiskFull(error)) return status.RESOURCE_EXHAUSTED;
  if (error instanceof CapacityError) return status.OUT_OF_RANGE;
  if ([InUseError, VolumeHeldError, PreconditionError].some((kind) => error instanceof kind))
    return status.FAILED_PRECONDITION;
  if (error instanceof CapabilityError && using.has(method)) return status.FAILED_PRECONDITION;
  // "Start over" and "try again later" have the same code.
  if (error instanceof PendingError || error instanceof PageError) return status.ABORTED;
  if (error instanceof LarderError) {
    if (error.kind !== 'conflict') return byKind[error.kind];
    return making.has(method) ? status.ALREADY_EXISTS : status.ABORTED;
  }
  return status.INTERNAL;
}
