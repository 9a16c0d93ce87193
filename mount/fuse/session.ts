import { writeSync, writevSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';
import { resendNotice } from './reply.ts';
import { type FuseRequest, parseRequest, splitMessages } from './request.ts';
import { STATE } from './session-state.ts';
import { startReader } from './session-thread.ts';

/** Why a session's reading ended: on our own wish, by unmounting, or because the connection was aborted. */
export type SessionEnd = 'stopped' | 'unmounted' | 'aborted';

export interface SessionCounters {
  /** Messages that came to `handle`. */
  requests: number;
  /** Answers that the kernel took. */
  answers: number;
  /** Answers to requests that the kernel had given up by then. */
  late: number;
}

/** Takes answers to the kernel. */
export interface AnswerPort {
  /** Writes one whole answer, in pieces or not. False where the kernel no longer waits for it. Never blocks. */
  send(answer: Buffer | readonly Buffer[]): boolean;
}

/** The readers of an open /dev/fuse. The descriptor belongs to the caller. */
export interface FuseSession extends AnswerPort {
  readonly fd: number;
  readonly counters: Readonly<SessionCounters>;
  /** Asks for every request again that somebody read from this connection and never answered (Linux 6.9). */
  resend(): void;
  /** Gives a message to the `take` of every reading thread. Resolves when all have taken it, or have ended. */
  tell(message: unknown): Promise<void>;
  /** Ends the reading. From then on the descriptor may be closed or read by another. */
  stop(): Promise<void>;
  readonly ended: Promise<SessionEnd>;
}

export interface SessionOptions {
  /** /dev/fuse, mounted, and opened with O_NONBLOCK. */
  readonly fd: number;
  /** A module whose `answerAtOnce` answers on the reading threads, and what it shares with this one. */
  readonly atOnce: { readonly module: URL; readonly shared: SharedArrayBuffer };
  /** How many threads read; 1 without it. */
  readonly threads?: number;
  /** Gets what that does not answer, on this thread. */
  readonly handle: (request: FuseRequest, session: FuseSession) => void;
}

/** How often the main thread shows that it moves, in ms. */
const ALIVE = 1000;

/**
 * Starts to read requests. Threads of their own block on the device, so that neither the event loop nor the threads that serve
 * `node:fs` wait for it; they hand whole batches to `handle` here. All read one descriptor: what was read through a clone of it
 * (FUSE_DEV_IOC_CLONE) would be ended with that clone, when this process dies, and could not be sent to the next. They end with the
 * process: also `process.exit` and an uncaught error wake them, for a thread in poll(2) would keep the process from exiting.
 */
export function startSession(options: SessionOptions): FuseSession {
  const { fd, handle } = options;
  const counters: SessionCounters = { requests: 0, answers: 0, late: 0 };
  const state = new Int32Array(new SharedArrayBuffer(STATE.length * 4));
  const move = () => Atomics.store(state, STATE.alive, Math.floor(Date.now() / 1000));
  move();
  const moving = setInterval(move, ALIVE);
  moving.unref();
  let running = true;

  function take(message: Uint8Array<ArrayBuffer>): void {
    const { buffer, byteOffset, byteLength } = message;
    for (const part of splitMessages(Buffer.from(buffer, byteOffset, byteLength))) {
      const request = parseRequest(part);
      if (request === undefined) continue;
      counters.requests += 1;
      handle(request, session);
    }
  }

  const readers = Array.from({ length: options.threads ?? 1 }, () =>
    startReader({ fd, module: options.atOnce.module.href, shared: options.atOnce.shared, state: state.buffer }, take),
  );
  const stop = () => {
    Atomics.store(state, STATE.stopping, 1);
    for (const reader of readers) reader.wake();
  };
  process.on('exit', stop);
  const ended = Promise.all(readers.map((reader) => reader.ended)).then(
    // When it is stopped, one may have seen that it was unmounted too.
    (ends) => ends.find((end) => end !== 'stopped') ?? 'stopped',
  );
  // One that fails takes the others along.
  for (const reader of readers) reader.ended.then(undefined, stop);
  const over = () => {
    running = false;
    clearInterval(moving);
    process.off('exit', stop);
  };
  ended.then(over, over);

  const session: FuseSession = {
    fd,
    counters,
    ended,
    send(answer) {
      // Once it has stopped, the descriptor is another's business, and its number may be another file's.
      if (!running) {
        counters.late += 1;
        return false;
      }
      try {
        if (Buffer.isBuffer(answer)) writeSync(fd, answer);
        else writevSync(fd, answer);
      } catch (error) {
        // ENOENT: interrupted, or the process is gone. ENODEV, ENOTCONN: unmounted since.
        if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENODEV') && !isErrno(error, 'ENOTCONN')) throw error;
        counters.late += 1;
        return false;
      }
      counters.answers += 1;
      return true;
    },
    resend() {
      if (running) writeSync(fd, resendNotice());
    },
    async tell(message) {
      await Promise.all(readers.map((reader) => reader.tell(message)));
    },
    async stop() {
      if (running) stop();
      await ended;
    },
  };
  return session;
}
