import { closeSync, writeSync } from 'node:fs';
import { eventFd } from '../../system/calls-fuse.ts';
import { startThread } from '../../system/thread.ts';
import type { SessionEnd } from './session.ts';
import type { ReaderData, ReaderMessage, ToldMessage } from './session-reader.ts';

/** A thread that reads a session's requests. */
export interface Reader {
  /** Makes it look at the session's state. */
  wake(): void;
  /** Resolves when it has taken the message, or has ended. */
  tell(message: unknown): Promise<void>;
  readonly ended: Promise<SessionEnd>;
}

const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);

/** Starts one. `take` gets what it does not answer itself. */
export function startReader(data: Omit<ReaderData, 'wake'>, take: (messages: Uint8Array<ArrayBuffer>) => void): Reader {
  const wake = eventFd();
  let running = true;
  let told = 0;
  const taking = new Map<number, () => void>();
  const worker = startThread(new URL('./session-reader.ts', import.meta.url), {
    workerData: { ...data, wake } satisfies ReaderData,
    name: 'larder-fuse',
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 8 },
  });
  const signal = () => {
    if (running) writeSync(wake, ONE);
  };
  const ended = new Promise<SessionEnd>((resolve, reject) => {
    let end: SessionEnd | undefined;
    let failure: Error | undefined;
    worker.on('message', (message: ReaderMessage) => {
      if ('messages' in message) take(message.messages);
      else if ('taken' in message) {
        taking.get(message.taken)?.();
        taking.delete(message.taken);
      } else if (message.end === 'stopped' || message.end === 'unmounted' || message.end === 'aborted')
        end = message.end;
      else failure = new Error(`reading /dev/fuse failed: ${message.end}`);
    });
    worker.on('error', (error) => {
      failure = error as Error;
    });
    worker.on('exit', () => {
      running = false;
      closeSync(wake);
      for (const taken of taking.values()) taken();
      taking.clear();
      if (end === undefined) reject(failure ?? new Error('the thread that reads /dev/fuse ended unasked'));
      else resolve(end);
    });
  });
  return {
    wake: signal,
    ended,
    async tell(message) {
      if (!running) return;
      const number = told++;
      const { promise, resolve } = Promise.withResolvers<void>();
      taking.set(number, resolve);
      worker.postMessage({ number, message } satisfies ToldMessage);
      signal();
      await promise;
    },
  };
}
