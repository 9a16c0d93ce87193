import * as net from 'node:net';
import * as tls from 'node:tls';
import { type AnswerHead, HeadReader } from './answer-head.ts';
import { ChunkedDecoder } from './chunked.ts';
import { abortReason, timedOut, wrongAnswer } from './failure.ts';
import { GetBody } from './get-body.ts';
import type { Timeouts } from './wire-options.ts';

export interface Origin {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
}

export interface GetAnswer {
  readonly head: AnswerHead;
  /** Little of it is read before it is opened. Must be read to its end or destroyed. */
  readonly body: GetBody;
}

/** A kept connection that ended before any of the answer came: the other side had closed it, maybe before it saw the request. */
export class StaleConnection extends Error {}

/** Answers with a status of 1xx before the real one, at most. */
const INTERIM_LIMIT = 16;
/** A connection without traffic is tried by the kernel after so long, in milliseconds. */
const KEEP_ALIVE_DELAY = 1000;

export interface ConnectionOptions {
  readonly origin: Origin;
  readonly timeouts: Timeouts;
  /** What has no place in a reader's memory lands here. May be shared: what is in it is used up before the next read. */
  readonly scratch: Uint8Array;
  /** A body has come whole: another request may be sent. */
  readonly onFree: (connection: GetConnection) => void;
  readonly onGone: (connection: GetConnection) => void;
}

interface Exchange {
  readonly resolve: (answer: GetAnswer) => void;
  readonly reject: (error: Error) => void;
  readonly signal: AbortSignal | undefined;
  readonly abort: () => void;
}

/**
 * A connection that GETs are sent over, one at a time. The kernel writes a body of known length into the memory that its reader gives:
 * there is no stream between, and no garbage for each block.
 */
export class GetConnection {
  readonly #options: ConnectionOptions;
  readonly #socket: net.Socket;
  readonly #head = new HeadReader();
  /** Whether it has served a request before. */
  #isUsed = false;
  #isGone = false;
  #isPaused = false;
  #interim = 0;
  #keptFor: number | undefined;
  /** From a request to the end of its answer. */
  #exchange: Exchange | undefined;
  #answer: GetAnswer | undefined;
  /** Of a body of known length, in bytes: what has not come. */
  #left = 0;
  #chunks: ChunkedDecoder | undefined;
  /** Whether what came after the answer was no answer. */
  #hasSurplus = false;
  /** Where the next bytes go to; undefined: to the scratch. */
  #target: Uint8Array | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { origin, timeouts, scratch } = options;
    const { host, port, secure } = origin;
    const connect = {
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY,
      onread: {
        buffer: () => this.#target ?? scratch,
        callback: (bytes: number, memory: Uint8Array) => this.#read(bytes, memory),
      },
    };
    const socket = secure
      ? tls.connect({ ...connect, servername: net.isIP(host) === 0 ? host : '', ALPNProtocols: ['http/1.1'] })
      : net.connect(connect);
    this.#socket = socket;
    const late = setTimeout(() => this.#fail(timedOut(`no connection after ${timeouts.connect} ms`)), timeouts.connect);
    socket.once('connect', () => {
      clearTimeout(late);
      socket.setTimeout(timeouts.stall);
    });
    socket.once('close', () => {
      clearTimeout(late);
      this.#break(broken('the connection ended'));
    });
    socket.on('timeout', () => this.#stalled());
    socket.on('end', () => this.#ended());
    socket.on('error', (error) => this.#break(error));
  }

  /** How long the other side keeps it between requests, in milliseconds, where it has said so. */
  get keptFor(): number | undefined {
    return this.#keptFor;
  }

  /**
   * Sends a request, and reads the head of its answer.
   * @param request all of it, as it is sent
   * @param signal ends the request, and the body too
   * @throws StaleConnection where another connection may do better
   */
  send(request: string, signal: AbortSignal | undefined): Promise<GetAnswer> {
    return new Promise((resolve, reject) => {
      const abort = () => this.#fail(abortReason(signal!));
      this.#exchange = { resolve, reject, signal, abort };
      if (this.#isGone) return this.#fail(broken('the connection ended'));
      if (signal?.aborted) return abort();
      signal?.addEventListener('abort', abort, { once: true });
      const socket = this.#socket;
      socket.ref();
      if (!socket.connecting) socket.setTimeout(this.#options.timeouts.stall);
      socket.write(request, 'latin1');
    });
  }

  /** Until the next request, it keeps no process up. @param longest after which it is closed, in milliseconds */
  rest(longest: number): void {
    this.#socket.setTimeout(longest);
    this.#socket.unref();
  }

  destroy(): void {
    this.#fail(broken('the connection was closed'));
  }

  /** @returns whether to read on */
  #read(bytes: number, memory: Uint8Array): boolean {
    // TLS gives what it has at hand, also after the end.
    if (this.#isGone) return false;
    try {
      if (memory === this.#options.scratch) this.#take(Buffer.from(memory.buffer, memory.byteOffset, bytes));
      else {
        this.#left -= bytes;
        this.#answer!.body.fill(bytes);
      }
      return this.#goOn();
    } catch (error) {
      this.#fail(error as Error);
      return false;
    }
  }

  #take(bytes: Buffer): void {
    let rest = bytes;
    while (this.#answer === undefined && rest.length > 0) {
      if (this.#exchange === undefined) throw wrongAnswer('an answer that nobody asked for');
      rest = rest.subarray(this.#head.take(rest));
      const { head } = this.#head;
      if (head === undefined) return;
      this.#head.clear();
      if (head.status >= 200) this.#begin(head);
      else if (head.status === 101) throw wrongAnswer('another protocol');
      else if (++this.#interim > INTERIM_LIMIT) throw wrongAnswer('no answer but interim ones');
    }
    if (this.#answer === undefined || rest.length === 0) return;
    const { body, head } = this.#answer;
    let used = rest.length;
    if (head.framing === 'close') body.put(rest);
    else if (this.#chunks !== undefined) used = this.#chunks.take(rest, (data) => body.put(data));
    else {
      used = Math.min(rest.length, this.#left);
      this.#left -= used;
      body.put(rest.subarray(0, used));
    }
    this.#hasSurplus = used < rest.length;
  }

  #begin(head: AnswerHead): void {
    const { framing, keptFor } = head;
    this.#left = typeof framing === 'number' ? framing : 0;
    this.#chunks = framing === 'chunked' ? new ChunkedDecoder() : undefined;
    if (keptFor !== undefined) this.#keptFor = keptFor;
    const body = new GetBody({
      resume: () => this.#resume(),
      leave: () => this.#fail(broken('the body was left')),
    });
    this.#answer = { head, body };
    this.#exchange!.resolve(this.#answer);
  }

  #resume(): void {
    if (!this.#isPaused || !this.#goOn()) return;
    this.#isPaused = false;
    if (this.#answer !== undefined) this.#socket.setTimeout(this.#options.timeouts.stall);
    this.#socket.resume();
  }

  /** Says where the next bytes go. @returns false where there is no place for them */
  #goOn(): boolean {
    this.#target = undefined;
    if (this.#answer === undefined) return true;
    const { head, body } = this.#answer;
    if (this.#chunks?.done || (typeof head.framing === 'number' && this.#left === 0)) return this.#finish(body);
    if (typeof head.framing === 'number') {
      const room = body.room();
      if (room !== undefined) {
        this.#target = room.length > this.#left ? room.subarray(0, this.#left) : room;
        return true;
      }
    } else if (!body.isBehind) return true;
    this.#isPaused = true;
    return false;
  }

  #finish(body: GetBody): boolean {
    const keeps = this.#answer!.head.keeps && !this.#hasSurplus;
    this.#answer = undefined;
    this.#leaveExchange();
    this.#interim = 0;
    this.#isUsed = true;
    body.end();
    if (keeps) this.#options.onFree(this);
    else this.destroy();
    return keeps;
  }

  #stalled(): void {
    const { stall } = this.#options.timeouts;
    if (this.#exchange === undefined) this.destroy();
    // What the reader has no room for is his slowness.
    else if (this.#isPaused) this.#socket.setTimeout(stall);
    else this.#fail(timedOut(`nothing sent or received for ${stall} ms`));
  }

  #ended(): void {
    if (this.#answer?.head.framing === 'close') {
      const { body } = this.#answer;
      this.#answer = undefined;
      body.end();
    }
    this.#break(broken('the connection ended'));
  }

  /** The other side ended it. */
  #break(error: Error): void {
    const isStale =
      this.#isUsed &&
      this.#exchange !== undefined &&
      this.#answer === undefined &&
      !this.#head.begun &&
      this.#interim === 0;
    this.#fail(isStale ? new StaleConnection(error.message, { cause: error }) : error);
  }

  #fail(error: Error): void {
    const exchange = this.#exchange;
    const answer = this.#answer;
    this.#leaveExchange();
    this.#answer = undefined;
    this.#target = undefined;
    if (!this.#isGone) {
      this.#isGone = true;
      this.#socket.destroy();
      this.#options.onGone(this);
    }
    if (answer !== undefined) answer.body.end(error);
    else exchange?.reject(error);
  }

  #leaveExchange(): void {
    this.#exchange?.signal?.removeEventListener('abort', this.#exchange.abort);
    this.#exchange = undefined;
  }
}

function broken(message: string): Error {
  return Object.assign(new Error(message), { code: 'ECONNRESET' });
}
