import { chmod } from 'node:fs/promises';
import { Server, ServerCredentials, type UntypedHandleCall, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { UnavailableError } from '../dataset/errors.ts';
import { type CallLog, type Handler, unary } from './call.ts';
import type { ControllerService } from './controller.ts';
import { clearSocket, socketPath } from './endpoint.ts';
import type { GroupControllerService } from './group-controller.ts';
import type { IdentityService } from './identity.ts';
import type { NodeCalls } from './node.ts';
import { loadProtocol, type ServiceName } from './protocol.ts';

export interface CsiServices {
  readonly Identity: IdentityService;
  readonly Controller?: ControllerService;
  readonly GroupController?: GroupControllerService;
  readonly Node?: NodeCalls;
}

export interface CsiServer {
  /** The socket's path. */
  readonly path: string;
  /** Takes no more calls, lets those under way end, for so many milliseconds at most, and removes the socket. */
  close(graceMilliseconds?: number): Promise<void>;
}

export interface CsiServerOptions {
  /** `unix:///run/csi/csi.sock`, as CSI_ENDPOINT has it. */
  readonly endpoint: string;
  readonly services: CsiServices;
  readonly log: CallLog;
}

/** A call that stages a volume may be at work for this long when the server is asked to stop. */
const GRACE = 30_000;

/**
 * Answers CSI calls on a unix socket that only its owner may connect to.
 * Errors: InvalidError for the endpoint, ConflictError where another process answers there, UnavailableError.
 */
export async function startCsiServer({ endpoint, services, log }: CsiServerOptions): Promise<CsiServer> {
  const path = socketPath(endpoint);
  await clearSocket(path);
  const protocol = loadProtocol();
  const server = new Server();
  for (const [name, methods] of Object.entries(services)) {
    if (methods !== undefined) server.addService(protocol[name as ServiceName].service, implement(methods, log));
  }
  await bind(server, path);
  await chmod(path, 0o600);
  return { path, close: (grace = GRACE) => stop(server, grace) };
}

function implement(methods: object, log: CallLog): UntypedServiceImplementation {
  return Object.fromEntries(
    Object.entries(methods as Record<string, Handler<unknown, unknown>>).map(([method, handler]) => [
      method,
      unary(method, handler, log) as UntypedHandleCall,
    ]),
  );
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(new UnavailableError(`cannot listen on ${path}: ${error.message}`, { cause: error }));
    });
  });
}

function stop(server: Server, grace: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => server.forceShutdown(), grace);
    server.tryShutdown((error) => {
      clearTimeout(timer);
      if (error === undefined) resolve();
      else reject(error);
    });
  });
}
