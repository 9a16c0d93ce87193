import { Agent, request as httpRequest } from 'node:http';
import { createInterface } from 'node:readline';
import { type ErrorFacts, type ErrorKind, errorOfKind, isErrno, UnavailableError } from '../dataset/errors.ts';
import { launchNode } from './launch.ts';
import { runtimePaths } from './paths.ts';
import type { Method, Methods, Progress, ReplyLine } from './protocol.ts';

export interface ConnectOptions {
  /** LARDER_RUNTIME. */
  readonly runtime: string;
  /** LARDER_CACHE; used where a daemon is started. */
  readonly cache: string;
  /** Start a daemon and its keeper where none runs. Without it, that none runs is an UnavailableError. */
  readonly start: boolean;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

export interface NodeClient {
  call<M extends Method>(
    method: M,
    request: Methods[M]['request'],
    options?: CallOptions,
  ): Promise<Methods[M]['reply']>;
  close(): void;
}

/** A connection to this node's daemon. */
export async function connectNode(options: ConnectOptions): Promise<NodeClient> {
  const { socket } = runtimePaths(options.runtime);
  if (!(await answers(socket))) {
    if (!options.start) {
      throw new UnavailableError(
        `no daemon runs on this node (nothing answers at ${socket}): 'larder mount' starts one, and so does 'larder node serve'`,
        { facts: { socket } },
      );
    }
    await launchNode({ runtime: options.runtime, cache: options.cache, ready: () => answers(socket) });
  }
  // A connection for each call: one that is kept may be closed by the daemon just when it is used again.
  const agent = new Agent();
  return {
    call: (method, request, callOptions) => call(socket, agent, method, request, callOptions),
    close: () => agent.destroy(),
  };
}

/** Whether a daemon listens. */
export function answers(socket: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: socket, path: '/livez', timeout: 5_000 }, (response) => {
      response.resume();
      response.on('end', () => resolve(true));
    });
    request.on('timeout', () => request.destroy(new UnavailableError(`the daemon at ${socket} does not answer`)));
    request.on('error', (error) => {
      if (isErrno(error, 'ENOENT') || isErrno(error, 'ECONNREFUSED')) resolve(false);
      else reject(error);
    });
    request.end();
  });
}

function call<M extends Method>(
  socket: string,
  agent: Agent,
  method: M,
  body: Methods[M]['request'],
  options: CallOptions = {},
): Promise<Methods[M]['reply']> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { socketPath: socket, agent, path: `/v1/${method}`, method: 'POST', signal: options.signal },
      (response) => {
        let settled = false;
        const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
        lines.on('line', (text) => {
          const line = JSON.parse(text) as ReplyLine;
          if ('progress' in line) {
            options.onProgress?.(line.progress);
          } else {
            settled = true;
            if ('error' in line) reject(revive(line.error));
            else resolve(line.result as Methods[M]['reply']);
          }
        });
        lines.on('close', () => {
          if (!settled) reject(new UnavailableError(`the node's daemon went away during '${method}': call it again`));
        });
        response.on('error', () => lines.close());
        lines.on('error', () => lines.close());
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}

function revive(error: { kind?: ErrorKind; message: string; facts?: ErrorFacts }): Error {
  return error.kind === undefined
    ? new Error(error.message)
    : errorOfKind(error.kind, error.message, { facts: error.facts });
}
