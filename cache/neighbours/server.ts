import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { checkServerIdentity, type TLSSocket } from 'node:tls';
import type { BucketObject, GetOptions } from '../../dataset/bucket/bucket.ts';
import { ConflictError, InvalidError, UnavailableError } from '../../dataset/errors.ts';
import type { Address } from './address.ts';
import { formatAddress } from './address.ts';
import { createGate } from './gate.ts';
import type { Identity } from './identity.ts';
import {
  CERTIFICATE_NAME,
  formatContentRange,
  INSTANCE_HEADER,
  LIFE_PATH,
  NODE_HEADER,
  parseOpenPath,
  parsePath,
  parseRange,
} from './wire.ts';

/** Requests that are answered at a time: each holds some blocks of 256 KiB. As many wait four times over. */
const SERVED = 64;
const WAITING = 256;

/** Connections beyond these are refused. */
const CONNECTIONS = 1024;

/** How long a connection is kept without a request, in milliseconds. */
const IDLE = 60_000;

/** How long a neighbour may take none of the bytes that it asked for, in milliseconds. */
const UNREAD = 30_000;

/**
 * Reads an object for a neighbour; undefined where the repository is not open here.
 * @param from how the list calls the neighbour, where it said so
 */
export type Serve = (
  repository: string,
  key: string,
  options: GetOptions,
  from: string | undefined,
) => Promise<BucketObject> | undefined;

export interface NeighbourServer {
  readonly address: Address;
  readonly stats: Readonly<ServerStats>;
  /** Connections that begin from now on get this certificate. */
  use(identity: Identity): void;
  close(): Promise<void>;
}

export interface ServerStats {
  /** Requests that got an object. */
  served: number;
  /** Of objects, sent. */
  bytes: number;
  /** Answered with: not open here, or too much to do. */
  refused: number;
  /** Being answered now. */
  active: number;
}

export interface ServerOptions {
  readonly listen: Address;
  /** Undefined: plain HTTP, which is for tests on one machine. */
  readonly identity: Identity | undefined;
  readonly instance: string;
  readonly serve: Serve;
  /** A neighbour that was asked for a repository in vain has it open now. */
  readonly onOpen: (from: string, repository: string) => void;
}

export async function startServer(options: ServerOptions): Promise<NeighbourServer> {
  const { listen, identity, instance, serve, onOpen } = options;
  const gate = createGate(SERVED, WAITING);
  const stats = { served: 0, bytes: 0, refused: 0, active: 0 };
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    answer(request, response).catch(() => response.destroy());
  };
  const server: Server | TlsServer =
    identity === undefined
      ? createPlainServer(handle)
      : createTlsServer(
          { ...identity, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3', handshakeTimeout: 10_000 },
          handle,
        );
  server.keepAliveTimeout = IDLE;
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  server.maxConnections = CONNECTIONS;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    response.setHeader(INSTANCE_HEADER, instance);
    if (identity !== undefined && !isNeighbour(request.socket as TLSSocket)) return end(response, 403);
    const { url = '', method } = request;
    const from = textOf(request.headers[NODE_HEADER]);
    if (method === 'GET' && url === LIFE_PATH) return end(response, 204);
    const opened = method === 'POST' ? parseOpenPath(url) : undefined;
    if (opened !== undefined) {
      if (from !== undefined) onOpen(from, opened);
      return end(response, 204);
    }
    if (method !== 'GET') return end(response, 405);
    const path = parsePath(url);
    const range = request.headers.range === undefined ? undefined : parseRange(request.headers.range);
    const { 'if-match': condition } = request.headers;
    const ifMatch = condition === undefined ? undefined : /^"([^"]*)"$/.exec(condition)?.[1];
    if (path === undefined || range === 'wrong' || (condition !== undefined && ifMatch === undefined))
      return end(response, 400);
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the neighbour went away')));
    using place = await gate.enter(gone.signal);
    if (place === undefined) {
      stats.refused += 1;
      return end(response, 503);
    }
    stats.active += 1;
    try {
      const opening = serve(path.repository, path.key, { range, ifMatch, signal: gone.signal }, from);
      if (opening === undefined) {
        stats.refused += 1;
        return end(response, 404);
      }
      let object: BucketObject;
      try {
        object = await opening;
      } catch (error) {
        return end(response, statusOf(error));
      }
      await send(response, object, range);
      stats.served += 1;
    } finally {
      stats.active -= 1;
    }
  }

  async function send(response: ServerResponse, object: BucketObject, range: GetOptions['range']): Promise<void> {
    response.writeHead(range === undefined ? 200 : 206, {
      etag: `"${object.etag}"`,
      'last-modified': object.modified.toUTCString(),
      'content-length': range?.length ?? object.size,
      'content-type': 'application/octet-stream',
      ...(range && { 'content-range': formatContentRange(range, object.size) }),
    });
    response.flushHeaders();
    for await (const block of object.body) {
      if (response.destroyed) return;
      stats.bytes += block.length;
      if (!response.write(block)) await drained(response);
    }
    response.end();
  }

  await new Promise<void>((resolve, reject) => {
    const refuse = (error: Error) =>
      reject(
        new UnavailableError(`neighbours cannot be served at ${formatAddress(listen)}: ${error.message}`, {
          cause: error,
          facts: { address: formatAddress(listen) },
        }),
      );
    server.once('error', refuse);
    server.listen(listen.port, listen.host, () => {
      server.off('error', refuse);
      resolve();
    });
  });
  server.on('clientError', (_error: Error, socket: Socket) => socket.destroy());
  // A handshake that fails is the other's failure: it hears of it.
  server.on('tlsClientError', () => {});
  const { address: host, port } = server.address() as AddressInfo;
  return {
    address: { host, port },
    stats,
    use: (next) => (server as TlsServer).setSecureContext({ ...next, minVersion: 'TLSv1.3' }),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Looked at once a connection. */
const checked = new WeakMap<TLSSocket, boolean>();

/** That the certificate comes from the authority is known; that it was given for this is told by its name. */
function isNeighbour(socket: TLSSocket): boolean {
  let known = checked.get(socket);
  if (known === undefined) {
    const certificate = socket.getPeerCertificate();
    known = certificate.subject !== undefined && checkServerIdentity(CERTIFICATE_NAME, certificate) === undefined;
    checked.set(socket, known);
  }
  return known;
}

function statusOf(error: unknown): number {
  if (error instanceof ConflictError) return 412;
  if (error instanceof InvalidError) return 416;
  return 502;
}

function textOf(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : undefined;
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status, status === 204 ? {} : { 'content-length': 0 }).end();
}

/** Whoever does not read for long loses the connection. */
async function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(() => response.destroy(), UNREAD);
  response.once('drain', resolve);
  response.once('close', resolve);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    response.off('drain', resolve);
    response.off('close', resolve);
  }
}
