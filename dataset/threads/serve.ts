import { parentPort } from 'node:worker_threads';
import { type ThreadError, toThreadError } from './thread-error.ts';

/** What a thread gets: a task, or leave to send more of a task's parts. */
export type Message =
  | { readonly id: number; readonly task: unknown }
  | { readonly id: number; readonly credit: number };

/** What a thread sends. */
export type Answer =
  | { readonly id: number; readonly part: unknown }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: ThreadError };

/** A result, and the buffers in it that move to the other thread instead of being copied. */
export interface Reply {
  readonly result: unknown;
  readonly transfer?: ArrayBuffer[];
}

/**
 * Sends a part ahead of the result. Gives a promise where so many bytes are under way that the task must wait before it goes on.
 */
export type Send = (part: unknown, bytes: number, transfer: ArrayBuffer[]) => Promise<void> | undefined;

/** Parts of one task that may be under way at a time, in bytes. A larger part goes by itself. */
const IN_FLIGHT = 16 << 20;

/** Does tasks one after the other, in a worker thread. */
export function serve<Task>(handle: (task: Task, send: Send) => Reply | Promise<Reply>): void {
  const port = parentPort;
  if (!port) throw new Error('this module runs in a worker thread');
  const queue: { id: number; task: Task }[] = [];
  let busy = false;
  let current = 0;
  let underway = 0;
  let wake: (() => void) | undefined;

  port.on('message', (message: Message) => {
    if ('credit' in message) {
      if (message.id !== current) return;
      underway -= message.credit;
      if (underway < IN_FLIGHT) wake?.();
      return;
    }
    queue.push(message as { id: number; task: Task });
    if (!busy) void work();
  });

  async function work(): Promise<void> {
    busy = true;
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { id, task } = next;
      current = id;
      underway = 0;
      const send: Send = (part, bytes, transfer) => {
        underway += bytes;
        port!.postMessage({ id, part } satisfies Answer, transfer);
        if (underway < IN_FLIGHT) return undefined;
        return new Promise((resolve) => {
          wake = () => {
            wake = undefined;
            resolve();
          };
        });
      };
      try {
        const reply = handle(task, send);
        const { result, transfer } = reply instanceof Promise ? await reply : reply;
        port!.postMessage({ id, result } satisfies Answer, transfer ?? []);
      } catch (error) {
        port!.postMessage({ id, error: toThreadError(error) } satisfies Answer);
      }
    }
    busy = false;
  }
}
