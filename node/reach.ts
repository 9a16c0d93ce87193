import type { Repository } from '../dataset/repository.ts';
import { abortable } from '../system/abortable.ts';

/** What is known of whether a repository answers. */
export interface Reached {
  readonly ok: boolean;
  /** For a person. */
  readonly message: string;
}

export interface Reach {
  /** The answer of a moment ago, or a new one, within the patience. Fails never: that nobody answers is an answer. */
  ask(location: string): Promise<Reached>;
  /** As `ask`, but what was known last at once, while it is asked anew; only the first time is waited for. */
  last(location: string): Promise<Reached>;
}

/** How long one answer is good for, and how long to wait for one, in milliseconds. */
const REACHED_FOR = 30_000;
const UNREACHED_FOR = 5_000;
const PATIENCE = 3_000;

/** Asks repositories for something small, seldom. */
export function createReach(
  at: (location: string) => Promise<Pick<Repository, 'bucket'>>,
  { patience = PATIENCE, reachedFor = REACHED_FOR } = {},
): Reach {
  const known = new Map<string, { readonly answer: Reached; readonly until: number }>();
  const asking = new Map<string, Promise<Reached>>();

  const askNow = async (location: string) => {
    const answer = await askOnce(() => at(location), patience);
    known.set(location, { answer, until: performance.now() + (answer.ok ? reachedFor : UNREACHED_FOR) });
    asking.delete(location);
    return answer;
  };
  const ask = async (location: string): Promise<Reached> => {
    const before = known.get(location);
    if (before !== undefined && performance.now() < before.until) return before.answer;
    const coming = asking.get(location) ?? askNow(location);
    asking.set(location, coming);
    return await coming;
  };

  return {
    ask,
    async last(location) {
      const coming = ask(location);
      return known.get(location)?.answer ?? (await coming);
    },
  };
}

async function askOnce(open: () => Promise<Pick<Repository, 'bucket'>>, patience: number): Promise<Reached> {
  const began = performance.now();
  const signal = AbortSignal.timeout(patience);
  try {
    // Opening asks too, and takes no signal.
    const { bucket } = await abortable(open(), signal);
    const info = await abortable(bucket.head('repository.json', signal), signal);
    if (info === undefined) return { ok: false, message: 'its repository.json is gone: see docs/operations.md' };
    return { ok: true, message: `answered in ${Math.ceil(performance.now() - began)} ms` };
  } catch (error) {
    const { name: kind, message } = error as Error;
    return { ok: false, message: kind === 'TimeoutError' ? `no answer within ${patience / 1000} s` : message };
  }
}
