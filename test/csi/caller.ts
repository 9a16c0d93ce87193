import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { type CsiClient, connectCsi } from './client.ts';

/** Calls as a cluster makes them: each is repeated while the answer is that it may work later. */
export interface Caller extends CsiClient {
  /** One call that is not repeated. */
  // biome-ignore lint/suspicious/noExplicitAny: as in CsiClient
  tryOnce(method: string, request?: object): Promise<any>;
  /** The same. Resolves to its answer, or to the code that it fails with. */
  // biome-ignore lint/suspicious/noExplicitAny: as in CsiClient
  once(method: string, request?: object): Promise<any | status>;
}

/** How long a call is repeated, in milliseconds. */
const PATIENCE = 60_000;
const PAUSE = 50;

const later: readonly status[] = [status.UNAVAILABLE, status.ABORTED];

export function createCaller(socket: string): Caller {
  const client = connectCsi(socket);
  return {
    ...client,
    tryOnce: client.call,
    async call(method, request) {
      const end = performance.now() + PATIENCE;
      for (;;) {
        try {
          return await client.call(method, request);
        } catch (error) {
          if (!isForLater(method, error as ServiceError) || performance.now() > end) throw error;
          await sleep(PAUSE);
        }
      }
    },
    async once(method, request) {
      try {
        return await client.call(method, request);
      } catch (error) {
        return (error as ServiceError).code;
      }
    },
  };
}

/** What is still being saved is deleted later; what was cut off has no answer, and is repeated. */
function isForLater(method: string, { code, details }: ServiceError): boolean {
  if (later.includes(code)) return true;
  if (code === status.CANCELLED || code === status.UNKNOWN) return /connection|stream|closed/i.test(details);
  return code === status.FAILED_PRECONDITION && /^Delete/.test(method);
}
