import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConflictError } from '../errors.ts';
import type { Repository } from '../repository.ts';
import type { KeepRules } from '../retention.ts';
import { markShallow } from '../shallow.ts';
import { listStored, markedOf, type Stored } from './census.ts';
import { type Amounts, markAll } from './condemn.ts';
import { REPRIEVES, SETTLE } from './guard.ts';
import { CONDEMNED, readLists } from './lists.ts';
import { Marker, type MarkProgress } from './mark.ts';
import { readReprieves } from './roots.ts';
import { COLLECTED, type Collected, type Condemned, type GcState, type StoredState, writeState } from './state.ts';

export interface SweepOptions {
  readonly repository: Repository;
  /** The time now by the store's clock, in milliseconds since 1970. */
  readonly now: number;
  readonly rules: KeepRules | undefined;
  /** How long to wait for names that are being written, in milliseconds; less than `SETTLE` only where nobody else writes. */
  readonly settle?: number;
  readonly temporary?: string;
  readonly onProgress?: (progress: SweepProgress) => void;
  readonly signal?: AbortSignal;
}

export interface SweepProgress extends MarkProgress {
  readonly deleted: number;
  readonly bytes: number;
}

export interface SweepResult {
  readonly deleted: Amounts;
  /** What was condemned and is named again, or written again. */
  readonly reprieved: Amounts;
}

/** A turn deletes at most so many objects, and begins no deletion after so many milliseconds. */
const TURN_OBJECTS = 1000;
const TURN_TIME = 10_000;
const DELETES = 32;

/**
 * How long a collector may be silent before another takes over, in milliseconds. One that finds itself `TURN_TIME` late deletes nothing more before
 * it has changed the state again; so this is long enough for a deletion that is on its way to arrive.
 */
export const LEASE = 10 * 60_000;

/**
 * Deletes what was condemned and is still named by nothing; ends with the state `idle`. The protocol: docs/decisions/collection.md.
 * A ConflictError where another collector has taken over.
 */
export async function sweep(options: SweepOptions, state: StoredState): Promise<SweepResult> {
  const sweeper = new Sweeper(options, state.condemned!, state);
  return await sweeper.run();
}

class Sweeper {
  readonly #options: SweepOptions;
  readonly #repository: Repository;
  readonly #condemned: Condemned;
  readonly #owner = randomUUID();
  #state: GcState & { readonly etag: string };
  readonly #sums: Record<'deleted' | 'reprieved', Record<Collected, { objects: number; bytes: number }>> = {
    deleted: zeros(),
    reprieved: zeros(),
  };
  /** Reprieves that are marked. */
  readonly #heard = new Set<string>();
  /** What reprieves keep that were written while deletions were under way. */
  readonly #late: Record<Collected, Set<string>> = {
    versions: new Set(),
    segments: new Set(),
    locations: new Set(),
    packs: new Set(),
  };
  #progress: SweepProgress = { versions: 0, segments: 0, deleted: 0, bytes: 0 };

  constructor(options: SweepOptions, condemned: Condemned, state: StoredState) {
    this.#options = options;
    this.#repository = options.repository;
    this.#condemned = condemned;
    this.#state = state;
  }

  async run(): Promise<SweepResult> {
    const { rules, temporary, settle = SETTLE, signal } = this.#options;
    const { before, run, amounts } = this.#condemned;
    await this.#change({ ...this.#state, phase: 'sweeping', deleting: false, owner: this.#owner });
    // Names that are written by those who saw no sweep are there after this.
    await sleep(settle, undefined, { signal });
    for (const { key, etag } of await readReprieves(this.#repository, signal)) this.#heard.add(`${key} ${etag}`);
    // `now - grace` is `before`: the same are young as when the list was made, and those since.
    using marker = await this.#renewing(() =>
      markAll({
        repository: this.#repository,
        now: before,
        grace: 0,
        rules,
        repackBelow: undefined,
        temporary,
        onProgress: (progress) => this.#report(progress),
        signal,
      }),
    );
    // Where rules leave out parents, the mark that says so comes before they go.
    for (const { id, parents } of marker.cut)
      if (parents.some((parent) => !marker.versions.has(parent))) await markShallow(this.#repository, id, signal);
    for (const id of marker.orphans) await markShallow(this.#repository, id, signal);
    for (const kind of COLLECTED) {
      const isMarked = markedOf(marker, kind);
      const isCondemned = followAsync(readLists(this.#repository, run, kind, amounts[kind].lists, signal));
      let victims: Stored[] = [];
      for await (const stored of listStored(this.#repository, kind, signal)) {
        const marked = isMarked(stored);
        if (!(await isCondemned(stored.digest))) continue;
        if (marked || stored.modified.getTime() >= before) this.#count('reprieved', kind, stored);
        else victims.push({ ...stored, digest: Buffer.alloc(0) });
        if (victims.length < TURN_OBJECTS) continue;
        await this.#delete(kind, victims);
        victims = [];
      }
      await this.#delete(kind, victims);
    }
    await this.#close(run);
    return this.#sums;
  }

  /** Deletes in turns: each is announced, and hears reprieves that were written before it was. */
  async #delete(kind: Collected, stored: readonly Stored[]): Promise<void> {
    let left = [...stored];
    while (left.length > 0) {
      this.#options.signal?.throwIfAborted();
      const turn = this.#state.turn + 1;
      await this.#change({ ...this.#state, turn, deleting: true });
      const began = performance.now();
      const wall = Date.now();
      const isLate = () => Math.max(performance.now() - began, Math.abs(Date.now() - wall)) > TURN_TIME;
      await this.#hear();
      for (const each of left) if (this.#late[kind].has(each.id)) this.#count('reprieved', kind, each);
      const victims = left.filter(({ id }) => !this.#late[kind].has(id));
      let next = 0;
      const work = async () => {
        while (next < victims.length && !isLate()) {
          const victim = victims[next++]!;
          await this.#repository.bucket.delete(victim.key);
          this.#count('deleted', kind, victim);
        }
      };
      await Promise.all(Array.from({ length: DELETES }, work));
      left = victims.slice(next);
    }
  }

  /** Marks what reprieves name that were written since. */
  async #hear(): Promise<void> {
    const { temporary, signal } = this.#options;
    const fresh = (await readReprieves(this.#repository, signal)).filter(
      ({ key, etag }) => !this.#heard.has(`${key} ${etag}`),
    );
    if (fresh.length === 0) return;
    using marker = new Marker(this.#repository, { temporary, signal });
    const of = (wanted: string) => fresh.filter(({ kind }) => kind === wanted).map(({ id }) => id);
    await marker.markLoosely(of('version'), of('root'), undefined);
    // Their ancestors may have gone in an earlier turn.
    for (const id of marker.orphans) await markShallow(this.#repository, id, signal);
    for (const id of marker.versions) this.#late.versions.add(id);
    for (const [kind, runs] of [
      ['segments', marker.segments],
      ['locations', marker.located],
      ['packs', marker.packs],
    ] as const)
      for (const digest of runs.read()) this.#late[kind].add(digest.toString('hex'));
    for (const { key, etag } of fresh) this.#heard.add(`${key} ${etag}`);
  }

  async #close(run: string): Promise<void> {
    const { bucket } = this.#repository;
    const { now, signal } = this.#options;
    const { turn } = this.#state;
    await this.#change({ phase: 'idle', turn, deleting: false });
    // A crash from here on leaves what the next collection removes.
    for await (const { key } of bucket.list(`${CONDEMNED}${run}/`, { signal })) await bucket.delete(key);
    // Later ones may be of writers that are about to publish; they are of no use after that, and go with the next sweep.
    for await (const { key, modified } of bucket.list(REPRIEVES, { signal }))
      if (modified.getTime() < now) await bucket.delete(key);
  }

  /** Shows that this collector is alive while `act` runs, which changes no state. */
  async #renewing<T>(act: () => Promise<T>): Promise<T> {
    let renewal = Promise.resolve();
    const timer = setInterval(() => {
      renewal = renewal.then(() => this.#change(this.#state));
      // It is waited for below.
      renewal.catch(() => undefined);
    }, LEASE / 5);
    try {
      return await act();
    } finally {
      clearInterval(timer);
      await renewal;
    }
  }

  async #change(next: GcState): Promise<void> {
    try {
      this.#state = await writeState(this.#repository, this.#state, next, this.#options.signal);
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      throw new ConflictError(`another collection of ${this.#repository.location} has taken over; leave it to that`, {
        cause: error,
      });
    }
  }

  #count(what: 'deleted' | 'reprieved', kind: Collected, { size }: Stored): void {
    const sum = this.#sums[what][kind];
    sum.objects += 1;
    sum.bytes += size;
    if (what === 'reprieved') return;
    const { deleted, bytes } = this.#progress;
    this.#progress = { ...this.#progress, deleted: deleted + 1, bytes: bytes + size };
    this.#options.onProgress?.(this.#progress);
  }

  #report(progress: MarkProgress): void {
    this.#progress = { ...this.#progress, ...progress };
    this.#options.onProgress?.(this.#progress);
  }
}

/** As `follow`, for records that come from the store. */
function followAsync(sorted: AsyncIterator<Buffer>): (record: Uint8Array) => Promise<boolean> {
  let next: IteratorResult<Buffer> | undefined;
  return async (record) => {
    for (;;) {
      next ??= await sorted.next();
      if (next.done) return false;
      const order = Buffer.compare(next.value, record);
      if (order >= 0) return order === 0;
      next = await sorted.next();
    }
  };
}

function zeros(): Record<Collected, { objects: number; bytes: number }> {
  const zero = () => ({ objects: 0, bytes: 0 });
  return { versions: zero(), segments: zero(), locations: zero(), packs: zero() };
}
