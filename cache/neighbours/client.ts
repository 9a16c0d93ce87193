import { type ClientRequest, type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { type RequestOptions, Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { connect } from 'node:net';
import type { BucketObject, GetOptions } from '../../dataset/bucket/bucket.ts';
import { parseAddress } from './address.ts';
import { closing } from './closing.ts';
import type { Identity } from './identity.ts';
import { type Deadlines, type Life, watchLife } from './life.ts';
import { NeighbourFault } from './neighbour-fault.ts';
import {
  CERTIFICATE_NAME,
  formatPath,
  formatRange,
  INSTANCE_HEADER,
  LIFE_PATH,
  NODE_HEADER,
  openPath,
  parseInfo,
} from './wire.ts';

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

export interface Client {
  /**
   * An object, or a range of it, from a neighbour. Its body ends with a NeighbourFault where it breaks off.
   * @throws NeighbourFault
   */
  get(peer: string, repository: string, key: string, options: GetOptions): Promise<BucketObject | Refusal>;
  /** Tells a neighbour that asked for this repository in vain that it is open here. It may not hear it. */
  tellOpen(peer: string, repository: string): Promise<void>;
  /** New connections are made with this certificate. */
  use(identity: Identity): void;
  close(): void;
}

export interface ClientOptions {
  /** Undefined: plain HTTP, which is for tests on one machine. */
  readonly identity: Identity | undefined;
  readonly instance: string;
  readonly deadlines: Deadlines;
  /** How the list calls this node, if it does. */
  readonly self: () => string | undefined;
}

export function createClient({ identity, instance, deadlines, self }: ClientOptions): Client {
  let agent = agentOf(identity, IDLE_CONNECTIONS);
  /** Signs of life are asked for on a connection that is never busy. */
  let asking = agentOf(identity, 1);
  const lives = new Map<string, Life>();
  const request = identity === undefined ? plainRequest : tlsRequest;

  function send(peer: string, options: RequestOptions): ClientRequest {
    const { host, port } = parseAddress(peer, 'a neighbour');
    const name = self();
    const headers = { ...(name !== undefined && { [NODE_HEADER]: name }), ...options.headers };
    return request({ agent, host, port, ...options, headers });
  }

  /** Whatever is answered. */
  function exchange(peer: string, options: RequestOptions): Promise<void> {
    return new Promise((resolve) => {
      const sent = send(peer, options);
      sent.once('response', (answer) => {
        answer.once('close', resolve);
        answer.resume();
        lives.get(peer)?.heard();
      });
      // Whoever waits for it hears by his own connection that it is gone.
      sent.on('error', () => resolve());
      sent.end();
    });
  }

  function lifeOf(peer: string): Life {
    let life = lives.get(peer);
    if (life === undefined) {
      const ask = (signal: AbortSignal, reached: () => void) => {
        knock(peer, signal, reached);
        return exchange(peer, { agent: asking, path: LIFE_PATH, signal });
      };
      life = watchLife({ peer, deadlines, ask });
      lives.set(peer, life);
    }
    return life;
  }

  async function get(
    peer: string,
    repository: string,
    key: string,
    { range, ifMatch, signal }: GetOptions,
  ): Promise<BucketObject | Refusal> {
    signal?.throwIfAborted();
    const life = lifeOf(peer);
    const headers: Record<string, string> = {};
    if (range !== undefined) headers.range = formatRange(range);
    if (ifMatch !== undefined) headers['if-match'] = `"${ifMatch}"`;
    const ask = () => answerTo(send(peer, { path: formatPath(repository, key), headers }), peer, life, signal);
    let answer: IncomingMessage;
    try {
      answer = await ask();
    } catch (error) {
      signal?.throwIfAborted();
      // It had closed the connection that was kept when we asked on it.
      if (!(error instanceof NeighbourFault && error.cause === STALE)) throw error;
      answer = await ask();
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
    const body = bodyOf(answer, parsed.length, peer, life, signal);
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
    tellOpen: (peer, repository) =>
      exchange(peer, {
        agent: asking,
        method: 'POST',
        path: openPath(repository),
        signal: AbortSignal.timeout(deadlines.silence),
      }),
    use(next) {
      const before = [agent, asking];
      agent = agentOf(next, IDLE_CONNECTIONS);
      asking = agentOf(next, 1);
      // What is under way goes on: only idle connections end.
      for (const { freeSockets } of before)
        for (const sockets of Object.values(freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    },
    close() {
      agent.destroy();
      asking.destroy();
    },
  };
}

function agentOf(identity: Identity | undefined, maxFreeSockets: number): PlainAgent | TlsAgent {
  const options = { keepAlive: true, maxFreeSockets, timeout: 0 };
  if (identity === undefined) return new PlainAgent(options);
  return new TlsAgent({ ...options, ...identity, servername: CERTIFICATE_NAME, minVersion: 'TLSv1.3' });
}

/** Whether its kernel takes a connection; nothing is said on it. */
function knock(peer: string, signal: AbortSignal, reached: () => void): void {
  const socket = connect({ ...parseAddress(peer, 'a neighbour'), signal });
  socket.once('connect', () => {
    reached();
    socket.destroy();
  });
  socket.on('error', () => {});
}

const STALE = new Error('the connection had been closed');

/** The head of the answer. */
function answerTo(
  request: ClientRequest,
  peer: string,
  life: Life,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      wait[Symbol.dispose]();
      signal?.removeEventListener('abort', abort);
    };
    const fail = (error: unknown) => {
      settle();
      reject(error);
      request.destroy();
    };
    const wait = life.wait(fail);
    const abort = () => fail(signal!.reason);
    signal?.addEventListener('abort', abort, { once: true });
    request.once('socket', (socket) => {
      // A TCP connection is taken by the kernel, also for a process that hangs.
      socket.once('secureConnect', life.heard);
    });
    request.once('response', (answer) => {
      settle();
      life.heard();
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
  life: Life,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const blocks = answer[Symbol.asyncIterator]();
  let done = 0;
  let fault: NeighbourFault | undefined;
  const abort = () => answer.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  using wait = life.wait((found) => {
    fault = found;
    answer.destroy();
  });
  try {
    while (done < length) {
      wait.waiting = true;
      const result: IteratorResult<Buffer> = await blocks.next();
      wait.waiting = false;
      if (result.done === true) break;
      const { length: count } = result.value;
      life.heard();
      wait.brought(count);
      done += count;
      yield result.value;
    }
    // The end itself, so that the connection can be used again.
    if (done === length) await blocks.next();
  } catch (error) {
    signal?.throwIfAborted();
    throw fault ?? new NeighbourFault(`${peer}: ${(error as Error).message}`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  signal?.throwIfAborted();
  if (done !== length) throw fault ?? new NeighbourFault(`${peer} gave ${done} bytes of ${length}`);
}
