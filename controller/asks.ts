import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, type Ask, type AskRecord, asksPrefix, bellKey, encodeAsk, readAsk } from '../dataset/asks.ts';
import { ConflictError, errorOfKind, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';

/** Asks nodes to do something. */
export interface Asks {
  /**
   * Asks a node, and waits for its answer. Everything that can be asked may be asked again.
   * Errors: UnavailableError where the node does not answer in time; what it went wrong with there, as it says.
   */
  ask(node: string, ask: Ask, options?: { readonly signal?: AbortSignal }): Promise<Answer>;
}

export interface AsksOptions {
  readonly repository: Pick<Repository, 'bucket'>;
  /** The node that this process is: it is asked without a way through the repository. */
  readonly local?: { readonly node: string; handle(ask: Ask, signal?: AbortSignal): Promise<Answer> };
  /** How long an answer is waited for, in milliseconds; what each kind may take if not said. */
  readonly patience?: number;
}

/** How long an answer is waited for, in milliseconds: a node looks each second, and copies what it cannot reflink. */
const PATIENCE: Readonly<Record<Ask['kind'], number>> = { cut: 60_000, 'cut-group': 90_000, 'save-now': 90_000 };
/** How long it is tried to take back what nobody waits for any more, in milliseconds. */
const FORGET_PATIENCE = 2_000;
/** Between two looks, in milliseconds: first, and at most. */
const FIRST_LOOK = 50;
const LONGEST_LOOK = 500;

export function createAsks({ repository: { bucket }, local, patience }: AsksOptions): Asks {
  const answerOf = async (node: string, ask: Ask, signal: AbortSignal): Promise<Answer> => {
    const key = asksPrefix(node) + idOf(ask);
    for (;;) {
      try {
        await bucket.put(key, encodeAsk({ ask }), { condition: 'absent', signal });
      } catch (error) {
        // Asked already, by somebody who ended or who waits too: the answer is for both.
        if (!(error instanceof ConflictError)) throw error;
      }
      await bucket.put(bellKey(node), Buffer.from(`${randomUUID()}\n`), { signal });
      for (let pause = FIRST_LOOK; ; pause = Math.min(pause * 1.5, LONGEST_LOOK)) {
        await sleep(pause, undefined, { signal });
        const found = await readAsk(bucket, key, signal);
        // Somebody else took its answer: it is asked anew.
        if (found === undefined) break;
        const { answer, error } = found.record;
        if (answer === undefined && error === undefined) continue;
        await forget(key, found.etag);
        return settle(found.record);
      }
    }
  };

  const forget = async (key: string, etag: string | undefined, signal?: AbortSignal) => {
    try {
      await bucket.delete(key, { ...(etag !== undefined && { ifMatch: etag }), ...(signal && { signal }) });
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  };

  return {
    async ask(node, ask, options = {}) {
      // A clone that is being copied is finished, whoever gives up: asked again, it is there.
      if (local?.node === node) return await local.handle(ask, ask.kind === 'cut' ? undefined : options.signal);
      const wait = patience ?? PATIENCE[ask.kind];
      const late = AbortSignal.timeout(wait);
      const signal = options.signal === undefined ? late : AbortSignal.any([late, options.signal]);
      try {
        return await answerOf(node, ask, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
        // A node that comes back must not do what nobody waits for.
        await forget(asksPrefix(node) + idOf(ask), undefined, AbortSignal.timeout(FORGET_PATIENCE)).catch(
          () => undefined,
        );
        options.signal?.throwIfAborted();
        throw new UnavailableError(
          `node ${node} did not answer within ${Math.round(wait / 1000)} s: see whether its daemon runs ('larder status' there), and try again`,
          { cause: error, facts: { node, ask: ask.kind } },
        );
      }
    },
  };
}

/** The same for what is the same, as long as its answer may be. */
function idOf(ask: Ask): string {
  switch (ask.kind) {
    case 'cut':
      return `cut-${ask.snapshot}`;
    case 'cut-group':
      return `group-${ask.attempt}`;
    case 'save-now':
      return `save-${ask.volume}`;
  }
}

function settle({ answer, error }: AskRecord): Answer {
  if (answer !== undefined) return answer;
  const { kind, message, facts } = error!;
  throw errorOfKind(kind, message, { facts });
}
