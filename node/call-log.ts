import { LarderError } from '../dataset/errors.ts';
import type { LogFields, Logger } from './log.ts';
import type { Method } from './protocol.ts';
import type { CallContext, Handlers } from './server.ts';

/** What changes nothing, and is asked for all the time. */
const QUESTIONS: ReadonlySet<Method> = new Set(['status', 'stats', 'cache-show']);

/** What a request or a reply tells of what the call was about. */
const ABOUT = ['volume', 'directory', 'name', 'dataset', 'version', 'repository'] as const;

type Handler = (request: object, context: CallContext) => Promise<object>;

/**
 * The same calls, with a line in the log for each when it has ended.
 * @param mountedOn what is known of the volume that is mounted on a directory
 */
export function logged(
  handlers: Handlers,
  log: Logger,
  mountedOn: (directory: string) => LogFields = () => ({}),
): Handlers {
  const wrap = ([method, handler]: [string, Handler]): [string, Handler] => {
    const level = QUESTIONS.has(method as Method) ? 'debug' : 'info';
    const logging: Handler = async (request, context) => {
      const began = performance.now();
      const asked = aboutCall(request);
      // Before the call: when it was an unmount, nobody knows any more.
      const about = { ...(typeof asked.directory === 'string' && mountedOn(asked.directory)), ...asked };
      const took = () => ({ method, milliseconds: Math.round(performance.now() - began) });
      try {
        const reply = await handler(request, context);
        log[level](method, { ...about, ...aboutCall(reply), ...took() });
        return reply;
      } catch (error) {
        const known = error instanceof LarderError;
        const text = `${method} failed: ${error instanceof Error ? error.message : String(error)}`;
        log[known ? 'warn' : 'error'](text, { ...about, ...took(), error });
        throw error;
      }
    };
    return [method, logging];
  };
  return Object.fromEntries(Object.entries(handlers as Record<string, Handler>).map(wrap)) as unknown as Handlers;
}

function aboutCall(facts: object): LogFields {
  const told = ABOUT.flatMap((name) => {
    const value = (facts as Record<string, unknown>)[name];
    return typeof value === 'string' ? [[name, value]] : [];
  });
  return Object.fromEntries(told);
}
