import { closeSync, writeSync, writevSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';
import { eventFd } from '../../system/calls-fuse.ts';
import { startThread } from '../../system/thread.ts';
import { resendNotice } from './reply.ts';
import { type FuseRequest, parseRequest, splitMessages } from './request.ts';
import type { ReaderData, ReaderMessage } from './session-reader.ts';

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
  /** Ends the reading. From then on the descriptor may be closed or read by another. */
  stop(): Promise<void>;
  readonly ended: Promise<SessionEnd>;
}

export interface SessionOptions {
  /** /dev/fuse, mounted, and opened with O_NONBLOCK. */
  readonly fd: number;
  /** A module whose `answerAtOnce` answers on the reading thread, and what it shares with this one. */
  readonly atOnce: { readonly module: URL; readonly shared: SharedArrayBuffer };
  /** Gets what that does not answer, on this thread. */
  readonly handle: (request: FuseRequest, session: FuseSession) => void;
}

/**
 * Starts to read requests. A thread of its own blocks on the device, so that neither the event loop nor the threads that serve
 * `node:fs` wait for it; it hands whole batches to `handle` here. It ends with the process: also `process.exit` and an uncaught
 * error wake it, for a thread in poll(2) would keep the process from exiting.
 */
export function startSession(options: SessionOptions): FuseSession {
  const { fd, handle } = options;
  const counters: SessionCounters = { requests: 0, answers: 0, late: 0 };
  const wake = eventFd();
  const data: ReaderData = { fd, wake, module: options.atOnce.module.href, shared: options.atOnce.shared };
  const worker = startThread(new URL('./session-reader.ts', import.meta.url), {
    workerData: data,
    name: 'larder-fuse',
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 8 },
  });
  const one = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
  const signal = () => {
    writeSync(wake, one);
  };
  process.on('exit', signal);

  const ended = new Promise<SessionEnd>((resolve, reject) => {
    let end: SessionEnd | undefined;
    let failure: Error | undefined;
    worker.on('message', (message: ReaderMessage) => {
      if ('end' in message) {
        if (message.end === 'stopped' || message.end === 'unmounted' || message.end === 'aborted') end = message.end;
        else failure = new Error(`reading /dev/fuse failed: ${message.end}`);
      } else {
        const { buffer, byteOffset, byteLength } = message.messages;
        for (const part of splitMessages(Buffer.from(buffer, byteOffset, byteLength))) {
          const request = parseRequest(part);
          if (request === undefined) continue;
          counters.requests += 1;
          handle(request, session);
        }
      }
    });
    worker.on('error', (error) => {
      failure = error as Error;
    });
    worker.on('exit', () => {
      process.off('exit', signal);
      closeSync(wake);
      if (end === undefined) reject(failure ?? new Error('the thread that reads /dev/fuse ended unasked'));
      else resolve(end);
    });
  });
  let running = true;
  const over = () => {
    running = false;
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
      writeSync(fd, resendNotice());
    },
    async stop() {
      if (running) signal();
      await ended;
    },
  };
  return session;
}
