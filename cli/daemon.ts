import { InvalidError } from '../dataset/errors.ts';
import type { Session } from './session.ts';

/** Resolves when somebody wants an end; for a daemon, that is no failure. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** CSI_ENDPOINT, or an InvalidError that asks for it. */
export function requireEndpoint({ environment }: Session): string {
  if (environment.csiEndpoint !== undefined) return environment.csiEndpoint;
  throw new InvalidError('set CSI_ENDPOINT to the socket to listen on, such as unix:///run/csi/csi.sock');
}
