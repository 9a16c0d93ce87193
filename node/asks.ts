import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Answer,
  type Ask,
  type AskRecord,
  asksPrefix,
  barrierPrefix,
  bellKey,
  encodeAsk,
  errorOfAnswer,
  readAsk,
} from '../dataset/asks.ts';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import { ConflictError, LarderError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import type { Logger } from './log.ts';

export interface AsksParts {
  readonly bucket: Bucket;
  /** What the cluster calls this node. */
  readonly node: string;
  handle(ask: Ask, signal: AbortSignal): Promise<Answer>;
  readonly log: Logger;
  /** Between two looks, in milliseconds; LOOK_INTERVAL if not said. */
  readonly interval?: number;
}

/** Between two looks whether anything is asked, in milliseconds: each is one request for a small object. */
const LOOK_INTERVAL = 1_000;
/** After so many looks, what nobody takes away is looked for: an answer whose asker ended, or a mark at a barrier. */
const SWEEP_EVERY = 600;

/** Answers what is asked of a node through the repository (dataset/asks.ts), until it is disposed of. */
export function serveAsks(parts: AsksParts): AsyncDisposable {
  const { bucket, node, handle, log, interval = LOOK_INTERVAL } = parts;
  const end = new AbortController();
  const { signal } = end;
  /** By key: the ETag under which it was looked at, and is answered or was. */
  const seen = new Map<string, string>();
  const answering = new Set<Promise<void>>();
  let leftovers = new Map<string, string>();
  let bell: string | undefined;

  const answer = async (key: string): Promise<void> => {
    const read = await readAsk(bucket, key, signal);
    if (read === undefined || read.record.answer !== undefined || read.record.error !== undefined) return;
    const { record, etag } = read;
    const over = new AbortController();
    const watching = watch(key, over);
    // What it fails with is told when it is waited for.
    watching.catch(() => undefined);
    const done = await settled(() => handle(record.ask, AbortSignal.any([signal, over.signal])));
    over.abort();
    await watching;
    if (signal.aborted) return;
    try {
      seen.set(key, await bucket.put(key, encodeAsk({ ...record, ...done }), { condition: { etag }, signal }));
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
      // Nobody waits for it any more; the same may be asked again.
      seen.delete(key);
    }
  };

  /** Ends what is being done when nobody waits for it any more: others may be held up by it. */
  const watch = async (key: string, over: AbortController): Promise<void> => {
    const either = AbortSignal.any([signal, over.signal]);
    while (!either.aborted) {
      try {
        await sleep(interval, undefined, { signal: either });
        if ((await bucket.head(key, either)) !== undefined) continue;
        over.abort(new UnavailableError('whoever asked for it has given up'));
      } catch (error) {
        if (either.aborted) return;
        // That it cannot be told is no sign of anything.
        if (!(error instanceof LarderError)) throw error;
      }
    }
  };

  const look = async (): Promise<void> => {
    // Before the list: what is asked after it rings again.
    const rung = (await bucket.head(bellKey(node), signal))?.etag;
    if (rung === bell) return;
    const keys = new Set<string>();
    for await (const { key, etag } of bucket.list(asksPrefix(node), { signal })) {
      keys.add(key);
      if (seen.get(key) === etag) continue;
      seen.set(key, etag);
      const task: Promise<void> = answer(key)
        .catch((error) => {
          if (signal.aborted) return;
          // Not seen after all: the next look tries it again.
          seen.delete(key);
          bell = undefined;
          log.warn(`what is asked of this node is not answered: ${(error as Error).message}`, {
            error,
            repeats: 'asks',
          });
        })
        .finally(() => answering.delete(task));
      answering.add(task);
    }
    for (const key of seen.keys()) if (!keys.has(key)) seen.delete(key);
    bell = rung;
  };

  /** What is there twice, and the same, is nobody's. */
  const sweep = async (): Promise<void> => {
    const now = new Map<string, string>();
    for (const prefix of [asksPrefix(node), barrierPrefix(node)])
      for await (const { key, etag } of bucket.list(prefix, { signal })) now.set(key, etag);
    for (const [key, etag] of now) if (leftovers.get(key) === etag) await bucket.delete(key, { signal });
    leftovers = now;
  };

  const run = async (): Promise<void> => {
    for (let looks = 0; !signal.aborted; looks++) {
      try {
        await look();
        if (looks % SWEEP_EVERY === 0) await sweep();
      } catch (error) {
        if (signal.aborted) return;
        log.warn(`whether anything is asked of this node cannot be told: ${(error as Error).message}`, {
          error,
          repeats: 'asks',
        });
      }
      await sleep(interval, undefined, { signal }).catch(() => undefined);
    }
  };

  const running = run();
  return {
    async [Symbol.asyncDispose]() {
      end.abort();
      await running;
      await Promise.all(answering);
    },
  };
}

/** What it came to, as an answer tells it. */
async function settled(task: () => Promise<Answer>): Promise<Pick<AskRecord, 'answer' | 'error'>> {
  try {
    return { answer: await task() };
  } catch (error) {
    const known =
      error instanceof LarderError ? error : new UnavailableError((error as Error).message, { cause: error });
    return { error: errorOfAnswer(known) };
  }
}
