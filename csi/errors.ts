import { ConflictError } from '../dataset/errors.ts';

/** A call for the same volume, snapshot or group is under way. */
export class PendingError extends ConflictError {}

/** Another call must come first. */
export class PreconditionError extends ConflictError {}
