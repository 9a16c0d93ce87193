import * as http from 'node:http';
import * as https from 'node:https';
import { Readable } from 'node:stream';
import { abortReason, timedOut } from './failure.ts';
import type { GetAnswer } from './get-connection.ts';
import { GetWire } from './get-wire.ts';
import { Inflow, ownMemory } from './inflow.ts';
import { Parts } from './parts.ts';
import type { WireOptions } from './wire-options.ts';
import { type WireRequest, wireHost, wirePath } from './wire-request.ts';

/** What a program gives to the SDK beside a command, and the SDK to the one who sends. */
export interface WireAside {
  /** It is an `AbortSignal`. */
  readonly abortSignal?: unknown;
  /** Takes the body of a good answer to a GET, which the SDK gets none of then. Called again where the SDK sends another request. */
  readonly onBody?: (body: GetAnswer['body']) => void;
}

/** Larger ones are no answers of a store that say what is wrong, in bytes. */
const REFUSAL_LIMIT = 1024 * 1024;

/**
 * Sends the SDK's requests over connections that are kept. A request or an answer that stands still ends with ETIMEDOUT, also in
 * the middle of a body; a reader that is slow does not count as one.
 */
export class Wire {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #options: WireOptions;
  readonly #agents: { readonly 'http:': http.Agent; readonly 'https:': https.Agent };
  /** For bodies that are large and many. */
  readonly #gets: GetWire;

  constructor(options: WireOptions) {
    this.#options = options;
    const kept = { keepAlive: true, maxFreeSockets: options.idle, noDelay: true };
    this.#agents = { 'http:': new http.Agent(kept), 'https:': new https.Agent(kept) };
    this.#gets = new GetWire(options);
  }

  async handle(request: WireRequest, aside: WireAside = {}): Promise<{ response: WireResponse }> {
    const signal = aside.abortSignal as AbortSignal | undefined;
    return await (aside.onBody !== undefined && request.method === 'GET'
      ? this.#get(request, signal, aside.onBody)
      : this.#send(request, signal));
  }

  async #get(
    request: WireRequest,
    signal: AbortSignal | undefined,
    onBody: NonNullable<WireAside['onBody']>,
  ): Promise<{ response: WireResponse }> {
    const { head, body } = await this.#gets.send(request, signal);
    const { status, headers } = head;
    const isGood = status >= 200 && status < 300;
    if (isGood) onBody(body);
    const rest = isGood ? [] : [await collected(body)];
    return { response: { statusCode: status, headers: { ...headers }, body: Readable.from(rest) } };
  }

  #send(request: WireRequest, signal: AbortSignal | undefined): Promise<{ response: WireResponse }> {
    const secure = request.protocol === 'https:';
    const sent = (secure ? https : http).request({
      agent: this.#agents[secure ? 'https:' : 'http:'],
      host: wireHost(request),
      port: request.port,
      method: request.method,
      path: wirePath(request),
      headers: request.headers,
    });
    return new Promise((resolve, reject) => {
      let answer: http.IncomingMessage | undefined;
      const end = (error: Error) => {
        answer?.destroy(error);
        sent.destroy(error);
        reject(error);
      };
      const abort = () => end(abortReason(signal!));
      sent.on('error', reject);
      sent.on('response', (response) => {
        answer = response;
        resolve({
          response: { statusCode: response.statusCode ?? 0, headers: headersOf(response.headers), body: response },
        });
      });
      this.#watch(sent, () => answer, end);
      if (signal?.aborted) return abort();
      signal?.addEventListener('abort', abort, { once: true });
      sent.once('close', () => signal?.removeEventListener('abort', abort));
      void write(sent, request.body);
    });
  }

  destroy(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
    this.#gets.destroy();
  }

  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): object {
    return {};
  }

  #watch(sent: http.ClientRequest, answer: () => http.IncomingMessage | undefined, end: (error: Error) => void): void {
    const { connect, stall } = this.#options;
    sent.on('socket', (socket) => {
      if (!socket.connecting) return;
      const late = setTimeout(() => end(timedOut(`no connection after ${connect} ms`)), connect);
      const over = () => clearTimeout(late);
      socket.once('connect', over);
      sent.once('close', over);
    });
    sent.on('socket', (socket) => {
      // By the socket's own event: the request's is given once, however often its timer is set again.
      const watched = () => {
        // What has come and is not yet read is the reader's slowness.
        if ((answer()?.readableLength ?? 0) > 0) socket.setTimeout(stall);
        else end(timedOut(`nothing sent or received for ${stall} ms`));
      };
      const begin = () => {
        if (!sent.destroyed) socket.setTimeout(stall);
      };
      socket.on('timeout', watched);
      if (socket.connecting) socket.once('connect', begin);
      else begin();
      sent.once('close', () => {
        socket.off('timeout', watched);
        socket.off('connect', begin);
        socket.setTimeout(0);
      });
    });
  }
}

export interface WireResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: Readable;
}

/** All of a body that says what is wrong. */
async function collected(body: GetAnswer['body']): Promise<Buffer> {
  const { into, taken } = ownMemory(REFUSAL_LIMIT);
  const inflow = new Inflow(into, REFUSAL_LIMIT);
  try {
    inflow.from(body);
    const parts: Buffer[] = [];
    for (let block = await inflow.next(); block !== undefined; block = await inflow.next()) {
      taken(block.length);
      parts.push(block);
    }
    return Buffer.concat(parts);
  } finally {
    inflow.close();
  }
}

async function write(sent: http.ClientRequest, body: unknown): Promise<void> {
  if (!(body instanceof Parts)) {
    sent.end(body === '' ? undefined : (body as string | Uint8Array | undefined));
    return;
  }
  const last = body.parts.length - 1;
  for (const [i, part] of body.parts.entries()) {
    if (sent.destroyed) return;
    if (i === last) break;
    if (!sent.write(part)) await drained(sent);
  }
  if (last >= 0) sent.end(body.parts[last]);
  else sent.end();
}

function drained(sent: http.ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      sent.off('drain', done);
      sent.off('close', done);
      resolve();
    };
    sent.on('drain', done);
    sent.on('close', done);
  });
}

function headersOf(headers: http.IncomingHttpHeaders): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(', ') : value;
  return flat;
}
