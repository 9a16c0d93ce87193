import { setTimeout as sleep } from 'node:timers/promises';
import { readObject } from '../dataset/bucket/read-object.ts';
import { guardPublish, type SweepMark } from '../dataset/collect/guard.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { mapAhead } from '../dataset/map-ahead.ts';
import type { Repository } from '../dataset/repository.ts';
import type { RecordKind } from './record-kind.ts';

/** A record as it was when it was read. */
export interface Stored<T> {
  readonly record: T;
  readonly slot: string;
  readonly etag: string;
}

export interface ChangeOptions {
  /** What `markSweeps` gave before a version that the change names was found stored. */
  readonly since?: SweepMark;
  readonly signal?: AbortSignal;
  /** Waits between two tries, for tests. */
  readonly wait?: (milliseconds: number) => Promise<unknown>;
}

/** A part of a list: from after an earlier part's `next`, or from the start. */
export interface PageRequest {
  readonly after?: string;
  /** PAGE_LIMIT if not said, and at most. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/** The list cannot go on from there. */
export class PageError extends InvalidError {}

/** Records on one page: with what is told of each, their answer must fit in one gRPC message of 4 MiB. */
export const PAGE_LIMIT = 1000;

/** How often a change is tried. Whoever is refused has been overtaken by somebody else's, so that all together get on. */
const ATTEMPTS = 16;
/** The longest wait after the first refusal, which doubles with each, and the longest of all; in milliseconds. */
const FIRST_WAIT = 20;
const LONGEST_WAIT = 2_000;
const READS_AHEAD = 16;

/** The records of one kind in a repository. */
export class RecordStore<T extends { readonly id: string }> {
  readonly #repository: Repository;
  readonly #kind: RecordKind<T>;

  constructor(repository: Repository, kind: RecordKind<T>) {
    this.#repository = repository;
    this.#kind = kind;
  }

  async at(slot: string, signal?: AbortSignal): Promise<Stored<T> | undefined> {
    const key = this.#kind.prefix + slot;
    try {
      const { bytes, etag } = await readObject(this.#repository.bucket, key, this.#kind.limit, { signal });
      return { record: this.#kind.decode(bytes, key), slot, etag };
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  /** The one with just this id, not one that was created by its name later. */
  async find(id: string, signal?: AbortSignal): Promise<Stored<T> | undefined> {
    const slot = this.#kind.slotOfId(id);
    const found = slot === undefined ? undefined : await this.at(slot, signal);
    return found?.record.id === id ? found : undefined;
  }

  /** Errors: NotFoundError; CorruptError. */
  async read(id: string, signal?: AbortSignal): Promise<T> {
    const found = await this.find(id, signal);
    if (found === undefined) throw this.none(id);
    return found.record;
  }

  none(id: string): NotFoundError {
    const { word, fact } = this.#kind;
    return new NotFoundError(`there is no ${word} ${JSON.stringify(id)}: it was deleted, or is of another repository`, {
      facts: { [fact]: id },
    });
  }

  /**
   * Writes a new record, which keeps its versions from then on.
   * @returns false where its slot is taken
   * Errors: NotFoundError where a version is gone.
   */
  async add(
    record: T,
    { since, signal }: { readonly since?: SweepMark; readonly signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const { bucket } = this.#repository;
    const slot = this.#kind.slotOfId(record.id) as string;
    const key = this.#kind.prefix + slot;
    const bytes = this.#kind.encode(record);
    const put = () => bucket.put(key, bytes, { condition: 'absent', signal });
    try {
      await this.#guarded(
        this.#kind.pinned(record),
        put,
        async () => {
          const found = await this.find(record.id);
          if (found !== undefined) await this.remove(found);
        },
        { since, signal },
      );
      return true;
    } catch (error) {
      if (error instanceof ConflictError) return false;
      throw error;
    }
  }

  /**
   * Changes a record by compare-and-swap: reads it, and writes what `change` makes of it if nobody has changed it since; else once more from the
   * start. `change` may be called any number of times, and returns undefined (or what it was given) where there is nothing to change; what it throws
   * ends the call.
   * @returns the record as it is now
   * Errors: NotFoundError where there is no such record, or a version that it names; UnavailableError where others change it all the time, or a
   * collection took parts of the version (guardPublish).
   */
  async change(
    id: string,
    change: (record: T) => T | undefined | Promise<T | undefined>,
    options: ChangeOptions = {},
  ): Promise<T> {
    const { signal, wait = (milliseconds) => sleep(milliseconds, undefined, { signal }) } = options;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const found = await this.find(id, signal);
      if (found === undefined) throw this.none(id);
      const next = await change(found.record);
      if (next === undefined) return found.record;
      try {
        await this.#replace(found, next, options);
        return next;
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        if (attempt >= ATTEMPTS)
          throw new UnavailableError(
            `${this.#kind.word} ${JSON.stringify(id)} was changed by others each of ${ATTEMPTS} times: try again`,
            { cause: error, facts: { [this.#kind.fact]: id } },
          );
      }
      await wait(Math.random() * Math.min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT));
    }
  }

  /** Puts `next` in the place of what was found, if that is still there. */
  async #replace(found: Stored<T>, next: T, { since, signal }: ChangeOptions): Promise<void> {
    const [before, bytes] = [this.#kind.encode(found.record), this.#kind.encode(next)];
    if (before.equals(bytes)) return;
    const key = this.#kind.prefix + found.slot;
    const put = () => this.#repository.bucket.put(key, bytes, { condition: { etag: found.etag }, signal });
    const pinned = this.#kind.pinned(found.record);
    const news = this.#kind.pinned(next).filter((version) => !pinned.includes(version));
    if (news.length === 0) {
      await put();
      return;
    }
    // What the record kept before, it keeps until it keeps the next.
    await this.#guarded(news, put, () => this.#putBack(found.record, next), { since, signal });
  }

  /** Takes versions out of a record again. */
  async #putBack(before: T, next: T): Promise<void> {
    const { encode, putBack } = this.#kind;
    const asIs = (now: T) => (encode(now).equals(encode(next)) ? before : undefined);
    try {
      await this.change(next.id, (now) => (putBack === undefined ? asIs(now) : putBack(now, before, next)));
    } catch (error) {
      // Deleted since: it keeps nothing.
      if (!(error instanceof NotFoundError)) throw error;
    }
  }

  async #guarded(
    versions: ReturnType<RecordKind<T>['pinned']>,
    put: () => Promise<string>,
    undo: () => Promise<void>,
    options: { readonly since?: SweepMark; readonly signal?: AbortSignal },
  ): Promise<void> {
    if (versions.length === 0) await put();
    else
      await guardPublish(
        this.#repository,
        versions.map((version) => ({ version })),
        put,
        { ...options, undo },
      );
  }

  /** Removes a record that was read, if it is unchanged. Errors: ConflictError. */
  async remove({ slot, etag }: Stored<T>): Promise<void> {
    await this.#repository.bucket.delete(this.#kind.prefix + slot, { ifMatch: etag });
  }

  /** All, in the order of their slots, from after one on. */
  async *all(options: { readonly after?: string; readonly signal?: AbortSignal } = {}): AsyncGenerator<Stored<T>> {
    const { after, signal } = options;
    const { prefix } = this.#kind;
    const listed = this.#repository.bucket.list(prefix, { after: after && prefix + after, signal });
    // One that was deleted since the listing is not in the list.
    for await (const found of mapAhead(listed, READS_AHEAD, ({ key }) => this.at(key.slice(prefix.length), signal)))
      if (found !== undefined) yield found;
  }
  /**
   * What `look` makes of records, in the order of their slots; those that it makes nothing of are not in the list.
   * @returns `next`: where the next page starts, which stays valid when records are deleted; absent on the last one
   * Errors: PageError where `after` is no page's end.
   */
  async page<R>(
    { after, limit = PAGE_LIMIT, signal }: PageRequest,
    look: (record: T) => R | undefined,
  ): Promise<{ readonly found: readonly R[]; readonly next?: string }> {
    if (after !== undefined && !this.#kind.isSlot(after))
      throw new PageError(`no page of ${this.#kind.word}s starts at ${JSON.stringify(after)}: list from the start`);
    const found: R[] = [];
    let last: string | undefined;
    for await (const { record, slot } of this.all({
      ...(after !== undefined && { after }),
      ...(signal && { signal }),
    })) {
      const seen = look(record);
      if (seen === undefined) continue;
      // One more than fits tells that there is a next page.
      if (last !== undefined && found.length >= Math.min(limit, PAGE_LIMIT)) return { found, next: last };
      found.push(seen);
      last = slot;
    }
    return { found };
  }
}
