import { type ClientRequest, type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { BucketObject, GetOptions } from '../../dataset/bucket/bucket.ts';
import { parseAddress } from './address.ts';
import { closing } from './closing.ts';
import type { Identity } from './identity.ts';
import { CERTIFICATE_NAME, formatPath, formatRange, INSTANCE_HEADER, parseInfo } from './wire.ts';

/** How long a neighbour may take, in milliseconds. */
export interface Deadlines {
  readonly connect: number;
  /** From the request to the head of its answer. */
  readonly head: number;
  /** Of waiting for the next `PROGRESS_BYTES` of a body; what the reader takes for himself does not count. */
  readonly stall: number;
}

/** A neighbour that brings less than this in a deadline is as good as none. */
const PROGRESS_BYTES = 1024 * 1024;

/** Connections kept to each neighbour while nothing is asked of it. */
const IDLE_CONNECTIONS = 4;

/** Why a neighbour gave no object. */
export type Refusal =
  /** It does not have the repository open. */
  | 'not-open'
  /** It has enough to do. */
  | 'busy'
  /** Its bucket failed, or has another object: who asks must ask the bucket himself. */
  | 'ask-bucket'
  /** It is this process. */
  | 'self';

/** A neighbour is away, too slow, no neighbour, or does not keep to the protocol. */
export class NeighbourFault extends Error {}

export interface Client {
  /**
   * An object, or a range of it, from a neighbour. Its body ends with a NeighbourFault where it breaks off.
   * @throws NeighbourFault
   */
  get(peer: string, repository: string, key: string, options: GetOptions): Promise<BucketObject | Refusal>;
  /** New connections are made with this certificate. */
  use(identity: Identity): void;
  close(): void;
}

export interface ClientOptions {
  /** Undefined: plain HTTP, which is for tests on one machine. */
  readonly identity: Identity | undefined;
  readonly instance: string;
  readonly deadlines: Deadlines;
}

export function createClient({ identity, instance, deadlines }: ClientOptions): Client {
  let agent = agentOf(identity);
  const request = identity === undefined ? plainRequest : tlsRequest;

  async function get(
    peer: string,
    repository: string,
    key: string,
    { range, ifMatch, signal }: GetOptions,
  ): Promise<BucketObject | Refusal> {
    signal?.throwIfAborted();
    const { host, port } = parseAddress(peer, 'a neighbour');
    const headers: Record<string, string> = {};
    if (range !== undefined) headers.range = formatRange(range);
    if (ifMatch !== undefined) headers['if-match'] = `"${ifMatch}"`;
    const send = () =>
      answerTo(request({ agent, host, port, path: formatPath(repository, key), headers }), peer, deadlines, signal);
    let answer: IncomingMessage;
    try {
      answer = await send();
    } catch (error) {
      signal?.throwIfAborted();
      // It had closed the connection that was kept when we asked on it.
      if (!(error instanceof NeighbourFault && error.cause === STALE)) throw error;
      answer = await send();
    }
    const refusal = refusalOf(answer, instance);
    if (refusal !== undefined) {
      answer.resume();
      return refusal;
    }
    const parsed =
      answer.statusCode === (range === undefined ? 200 : 206) ? parseInfo(answer.headers, range) : undefined;
    if (parsed === undefined) {
      answer.destroy();
      throw new NeighbourFault(`${peer} gave an answer that is none: status ${answer.statusCode}`);
    }
    const body = bodyOf(answer, parsed.length, peer, deadlines.stall, signal);
    return {
      ...parsed.info,
      body: closing(body, () => {
        // Read to its end, the connection is kept.
        if (!answer.readableEnded) answer.destroy();
      }),
    };
  }

  return {
    get,
    use(next) {
      const before = agent;
      agent = agentOf(next);
      // What is under way goes on: only idle connections end.
      for (const sockets of Object.values(before.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    },
    close: () => agent.destroy(),
  };
}

function agentOf(identity: Identity | undefined): PlainAgent | TlsAgent {
  const options = { keepAlive: true, maxFreeSockets: IDLE_CONNECTIONS, timeout: 0 };
  if (identity === undefined) return new PlainAgent(options);
  return new TlsAgent({ ...options, ...identity, servername: CERTIFICATE_NAME, minVersion: 'TLSv1.3' });
}

const STALE = new Error('the connection had been closed');

/** The head of the answer. */
function answerTo(
  request: ClientRequest,
  peer: string,
  { connect, head }: Deadlines,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout;
    const within = (milliseconds: number, what: string) => {
      clearTimeout(timer);
      timer = setTimeout(() => fail(new NeighbourFault(`${peer} ${what} in ${milliseconds} ms`)), milliseconds);
    };
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const fail = (error: unknown) => {
      settle();
      reject(error);
      request.destroy();
    };
    const abort = () => fail(signal!.reason);
    signal?.addEventListener('abort', abort, { once: true });
    within(connect, 'did not take a connection');
    const connected = () => within(head, 'did not begin to answer');
    request.once('socket', (socket) => {
      if (!socket.connecting && request.reusedSocket) connected();
      else socket.once((socket as TLSSocket).encrypted ? 'secureConnect' : 'connect', connected);
    });
    request.once('response', (answer) => {
      settle();
      resolve(answer);
    });
    // Stays for what comes after the answer's head: the body tells that too.
    request.on('error', (error: NodeJS.ErrnoException) => {
      const stale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      fail(new NeighbourFault(`${peer}: ${error.message}`, { cause: stale ? STALE : error }));
    });
    request.end();
  });
}

function refusalOf({ statusCode, headers }: IncomingMessage, instance: string): Refusal | undefined {
  if (headers[INSTANCE_HEADER] === instance) return 'self';
  if (headers[INSTANCE_HEADER] === undefined) return undefined;
  switch (statusCode) {
    case 404:
      return 'not-open';
    case 503:
      return 'busy';
    case 412:
    case 416:
    case 502:
      return 'ask-bucket';
    default:
      return undefined;
  }
}

async function* bodyOf(
  answer: IncomingMessage,
  length: number,
  peer: string,
  stall: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const blocks = answer[Symbol.asyncIterator]();
  let done = 0;
  let waited = 0;
  let brought = 0;
  let stalled = false;
  const abort = () => answer.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    while (done < length) {
      const began = performance.now();
      const timer = setTimeout(() => {
        stalled = true;
        answer.destroy();
      }, stall - waited);
      let result: IteratorResult<Buffer>;
      try {
        result = await blocks.next();
      } finally {
        clearTimeout(timer);
      }
      if (result.done === true) break;
      waited += performance.now() - began;
      brought += result.value.length;
      if (brought >= PROGRESS_BYTES) {
        waited = 0;
        brought = 0;
      }
      done += result.value.length;
      yield result.value;
    }
    // The end itself, so that the connection can be used again.
    if (done === length) await blocks.next();
  } catch (error) {
    signal?.throwIfAborted();
    throw new NeighbourFault(
      stalled ? `${peer} brought too little in ${stall} ms` : `${peer}: ${(error as Error).message}`,
      { cause: error },
    );
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  signal?.throwIfAborted();
  if (done !== length)
    throw new NeighbourFault(`${peer} gave ${done} bytes of ${length}${stalled ? ' and no more' : ''}`);
}
