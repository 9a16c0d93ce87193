import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { CapacityError } from '../controller/capacity.ts';
import { PageError } from '../controller/record-store.ts';
import {
  ConflictError,
  CorruptError,
  DiskFullError,
  errorOfKind,
  InvalidError,
  NotFoundError,
  UnavailableError,
} from '../dataset/errors.ts';
import { HeldError, VolumeHeldError } from '../dataset/volume-terms.ts';
import { PermissionError } from '../node/rights.ts';
import { InUseError } from '../node/service-types.ts';
import { CapabilityError } from './access.ts';
import { PendingError, PreconditionError } from './errors.ts';
import { statusOf } from './status.ts';

describe('the status of a failed call', () => {
  it('can be sent also where the limit of a message falls into a character', () => {
    const { details } = statusOf(new InvalidError('\u{1f600}'.repeat(2000).slice(1)), 'CreateVolume');
    expect(encodeURI(details)).not.toBe('');
    expect(details.length).toBeLessThanOrEqual(2000);
  });

  it.each([
    [new NotFoundError('x'), 'NOT_FOUND'],
    [new InvalidError('x'), 'INVALID_ARGUMENT'],
    [new UnavailableError('x'), 'UNAVAILABLE'],
    [new CorruptError('x'), 'DATA_LOSS'],
    [new CapacityError('x'), 'OUT_OF_RANGE'],
    [new InUseError('x'), 'FAILED_PRECONDITION'],
    [new PreconditionError('x'), 'FAILED_PRECONDITION'],
    [new VolumeHeldError('x'), 'FAILED_PRECONDITION'],
    [new PermissionError('x'), 'PERMISSION_DENIED'],
    [new PendingError('x'), 'ABORTED'],
    [new PageError('x'), 'ABORTED'],
    [new DiskFullError('x'), 'RESOURCE_EXHAUSTED'],
    // As it comes from another process or node.
    [errorOfKind('unavailable', 'x', { facts: new DiskFullError('y').facts }), 'RESOURCE_EXHAUSTED'],
    [Object.assign(new Error('x'), { code: 'ENOSPC' }), 'RESOURCE_EXHAUSTED'],
    [Object.assign(new Error('x'), { code: 'EACCES' }), 'INTERNAL'],
    [new TypeError('x'), 'INTERNAL'],
    ['x', 'INTERNAL'],
  ] as [unknown, keyof typeof status][])('tells what kind of failure it is: %o', (error, code) => {
    expect(statusOf(error, 'CreateVolume')).toEqual({ code: status[code], details: 'x' });
  });

  it('of a conflict is that the thing exists, or to try again, as the call is', () => {
    const conflict = new ConflictError('x');
    for (const method of [
      'CreateVolume',
      'CreateSnapshot',
      'CreateVolumeGroupSnapshot',
      'NodeStageVolume',
      'NodePublishVolume',
    ])
      expect(statusOf(conflict, method).code, method).toBe(status.ALREADY_EXISTS);
    for (const method of ['DeleteVolume', 'DeleteSnapshot', 'NodeUnstageVolume'])
      expect(statusOf(conflict, method).code, method).toBe(status.ABORTED);
  });

  it('of a workspace that another node holds is to try again later', () => {
    const holder = { node: 'n', instance: 'i', since: '2026-01-02T03:04:05.678Z' };
    const held = new HeldError({ id: 'vol-1', name: 'pvc-1' }, holder, 12_345);
    expect(statusOf(held, 'NodeStageVolume')).toEqual({ code: status.UNAVAILABLE, details: held.message });
  });

  it('of a capability that the volume lacks is a fault of the request, but where a node is to use it', () => {
    const lacking = new CapabilityError('x');
    for (const method of ['NodeStageVolume', 'NodePublishVolume'])
      expect(statusOf(lacking, method).code, method).toBe(status.FAILED_PRECONDITION);
    for (const method of ['CreateVolume', 'ControllerExpandVolume', 'NodeExpandVolume'])
      expect(statusOf(lacking, method).code, method).toBe(status.INVALID_ARGUMENT);
  });

  it('carries no more text than a header holds', () => {
    expect(statusOf(new Error('x'.repeat(100_000)), 'CreateVolume').details.length).toBe(2000);
  });
});
