import { parentPort } from 'node:worker_threads';
import { type ThreadError, toThreadError } from './thread-error.ts';

/** What a thread gets: a task, leave to send more of a task's parts, something that a task asked for, or word that it is to end. */
export type Message =
  | 'end'
  | { readonly id: number; readonly task: unknown }
  | { readonly id: number; readonly credit: number }
  | { readonly id: number; readonly given: unknown };

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

/** Gives what the other side gave the task, in order, once it is there. */
export type Take = () => Promise<unknown>;

/** Parts of one task that may be under way at a time, in bytes. A larger part goes by itself. */
const IN_FLIGHT = 16 << 20;

/**
 * Does tasks in a worker thread, begun in the order in which they come.
 * @param together how many are under way at a time: with two, one computes while the other waits for a disk or a network
 */
export function serve<Task>(
  handle: (task: Task, send: Send, take: Take) => Reply | Promise<Reply>,
  together = 1,
): void {
  const port = parentPort;
  if (!port) throw new Error('this module runs in a worker thread');
  const queue: { readonly id: number; readonly task: Task }[] = [];
  /** Of tasks that send parts: bytes under way, and who waits for fewer. */
  const flows = new Map<number, { underway: number; wake: (() => void) | undefined }>();
  /** What tasks under way were given and did not take, and the one who waits for more. */
  const gifts = new Map<number, { readonly values: unknown[]; wake: ((value: unknown) => void) | undefined }>();
  let working = 0;

  port.on('message', (message: Message) => {
    // Ended from inside, between two calls: a thread that is terminated inside a native call takes the whole process along.
    if (message === 'end') process.exit();
    if ('credit' in message) {
      const flow = flows.get(message.id);
      if (flow === undefined) return;
      flow.underway -= message.credit;
      if (flow.underway < IN_FLIGHT) flow.wake?.();
      return;
    }
    if ('given' in message) {
      const gift = gifts.get(message.id);
      if (gift?.wake === undefined) gift?.values.push(message.given);
      else {
        const { wake } = gift;
        gift.wake = undefined;
        wake(message.given);
      }
      return;
    }
    queue.push(message as { readonly id: number; readonly task: Task });
    if (working < together) void work();
  });

  const sender =
    (id: number): Send =>
    (part, bytes, transfer) => {
      let flow = flows.get(id);
      if (flow === undefined) {
        flow = { underway: 0, wake: undefined };
        flows.set(id, flow);
      }
      flow.underway += bytes;
      port.postMessage({ id, part } satisfies Answer, transfer);
      if (flow.underway < IN_FLIGHT) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      flow.wake = resolve;
      return promise;
    };

  const taker =
    (id: number): Take =>
    async () => {
      const gift = gifts.get(id)!;
      if (gift.values.length > 0) return gift.values.shift();
      return await new Promise((resolve) => {
        gift.wake = resolve;
      });
    };

  async function work(): Promise<void> {
    working++;
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { id, task } = next;
      gifts.set(id, { values: [], wake: undefined });
      try {
        const reply = handle(task, sender(id), taker(id));
        const { result, transfer } = reply instanceof Promise ? await reply : reply;
        port!.postMessage({ id, result } satisfies Answer, transfer ?? []);
      } catch (error) {
        port!.postMessage({ id, error: toThreadError(error) } satisfies Answer);
      } finally {
        flows.delete(id);
        gifts.delete(id);
      }
    }
    working--;
  }
}
