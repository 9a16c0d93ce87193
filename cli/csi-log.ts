import type { CallLog, CallRecord } from '../csi/call.ts';
import type { LogFields, Logger } from '../node/log.ts';

/** What clusters ask for all the time, and what changes nothing. */
const QUESTION = /^(Node|Controller|GroupController)?(Probe|Get|List|Validate)/;

/**
 * One line a call: what succeeded at `info`, questions that did at `debug`, what failed at `warn`, and what failed for a reason that nobody
 * thought of at `error`.
 * @param about what else is known of a volume
 */
export function logCalls(log: Logger, about: (volume: string) => LogFields = () => ({})): CallLog {
  return ({ method, volume, snapshot, milliseconds, code, message, error }: CallRecord) => {
    const fields = {
      method,
      code,
      milliseconds: Math.round(milliseconds * 10) / 10,
      ...(volume !== undefined && { ...about(volume), volume }),
      ...(snapshot !== undefined && { snapshot }),
      ...(error !== undefined && { error }),
    };
    const text = message === undefined ? `${method} ${code}` : `${method} ${code}: ${message}`;
    if (code === 'OK') log[QUESTION.test(method) ? 'debug' : 'info'](text, fields);
    else if (error !== undefined) log.error(text, fields);
    // A sidecar tries again and again.
    else log.warn(text, { ...fields, repeats: `${method} ${volume ?? snapshot}` });
  };
}
