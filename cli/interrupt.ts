import { setMaxListeners } from 'node:events';

/** Not SIGHUP: a handler would undo what `nohup` asks for. */
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Why an operation was aborted: the user, or a supervisor, asked for an end. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super('interrupted');
    this.name = 'Interrupted';
    this.signal = signal;
  }
}

/**
 * An AbortSignal that the first SIGINT or SIGTERM aborts, with an `Interrupted` as its reason. The second one finds the
 * handlers gone and ends the process at once, as it would any other.
 */
export function abortOnSignal(): AbortSignal & Disposable {
  const controller = new AbortController();
  // Every file in flight may listen; that is no leak.
  setMaxListeners(0, controller.signal);
  const stop = () => {
    for (const signal of SIGNALS) process.removeListener(signal, abort);
  };
  const abort = (signal: NodeJS.Signals) => {
    stop();
    controller.abort(new Interrupted(signal));
  };
  for (const signal of SIGNALS) process.on(signal, abort);
  return Object.assign(controller.signal, { [Symbol.dispose]: stop });
}
