import { type handleUnaryCall, type ServerErrorResponse, status } from '@grpc/grpc-js';
import { UnavailableError } from '../dataset/errors.ts';
import { type CallStatus, statusOf } from './status.ts';

/** One answered call, for the log. Of the request it has only what it is about: requests carry secrets. */
export interface CallRecord {
  readonly method: string;
  /** The volume's id, or its name where it has none yet. */
  readonly volume?: string;
  /** The snapshot's or the group of snapshots', likewise. */
  readonly snapshot?: string;
  readonly milliseconds: number;
  /** A gRPC status by name: `OK`, `NOT_FOUND`. */
  readonly code: string;
  /** What the caller was told, where the call failed. */
  readonly message?: string;
  /** Where an error of no known kind came from, with its causes. */
  readonly error?: unknown;
}

export type CallLog = (record: CallRecord) => void;

/**
 * A method: takes a request's message, resolves to the answer's.
 * @param signal aborts when nobody waits for the answer any more: the caller has given up, or is gone
 */
export type Handler<Request, Response> = (request: Request, signal: AbortSignal) => Promise<Response>;

/** As gRPC takes it: answers, translates errors, and logs the call. */
export function unary<Request, Response>(
  method: string,
  handler: Handler<Request, Response>,
  log: CallLog,
): handleUnaryCall<Request, Response> {
  return (call, respond) => {
    const started = performance.now();
    const record = () => ({
      method,
      ...aboutOf(method, call.request),
      milliseconds: performance.now() - started,
    });
    const gone = new AbortController();
    // Also told after the answer, when nothing looks at it any more.
    call.once('cancelled', () => gone.abort(new UnavailableError('the caller has given up')));
    handler(call.request, gone.signal).then(
      (response) => {
        log({ ...record(), code: 'OK' });
        respond(null, response);
      },
      (error: unknown) => {
        const told = statusOf(error, method);
        // What an end of waiting looks like inside is nobody's fault.
        const answer: CallStatus = gone.signal.aborted ? { ...told, code: status.CANCELLED } : told;
        log({
          ...record(),
          code: status[answer.code],
          message: answer.details,
          ...(answer.code === status.INTERNAL ? { error } : {}),
        });
        respond(answer as ServerErrorResponse, null);
      },
    );
  };
}

function aboutOf(method: string, request: unknown): Pick<CallRecord, 'volume' | 'snapshot'> {
  const { volumeId, name, sourceVolumeId, snapshotId, groupSnapshotId } = request as Readonly<Record<string, string>>;
  const isVolume = !method.includes('Snapshot');
  const volume = volumeId || sourceVolumeId || (isVolume && name) || undefined;
  const snapshot = snapshotId || groupSnapshotId || (!isVolume && name) || undefined;
  return { ...(volume && { volume }), ...(snapshot && { snapshot }) };
}
