import { setTimeout as sleep } from 'node:timers/promises';
import { readObject } from '../dataset/bucket/read-object.ts';
import { guardPublish, type SweepMark } from '../dataset/collect/guard.ts';
import { ConflictError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { mapAhead } from '../dataset/map-ahead.ts';
import type { Repository } from '../dataset/repository.ts';
import type { RecordKind } from './snapshot.ts';

/** A record as it was when it was read. */
export interface Stored<T> {
  readonly record: T;
  readonly slot: string;
  readonly etag: string;
}

/** How often a change is tried that somebody else's overtakes, and the longest wait between two tries, in milliseconds. */
const ATTEMPTS = 16;
const LONGEST_WAIT = 1_000;
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
    const { word } = this.#kind;
    return new NotFoundError(`there is no ${word} ${JSON.stringify(id)}: it was deleted, or is of another repository`, {
      facts: { [word.replace(' ', '')]: id },
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
   * Changes a record by compare-and-swap: `change` may be called any number of times, and returns undefined where there is nothing to change.
   * What it throws ends the call.
   * @returns the record as it is now
   * Errors: NotFoundError; UnavailableError where others change it all the time.
   */
  async change(
    id: string,
    change: (record: T) => T | undefined,
    options: { readonly since?: SweepMark; readonly signal?: AbortSignal } = {},
  ): Promise<T> {
    const { signal } = options;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const found = await this.find(id, signal);
      if (found === undefined) throw this.none(id);
      const next = change(found.record);
      if (next === undefined) return found.record;
      try {
        await this.#replace(found, next, options);
        return next;
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        if (attempt >= ATTEMPTS)
          throw new UnavailableError(
            `${this.#kind.word} ${JSON.stringify(id)} was changed by others each of ${ATTEMPTS} times: try again`,
            { cause: error },
          );
      }
      await sleep(Math.random() * Math.min(20 * 2 ** (attempt - 1), LONGEST_WAIT), undefined, { signal });
    }
  }

  async #replace(
    found: Stored<T>,
    next: T,
    options: { readonly since?: SweepMark; readonly signal?: AbortSignal },
  ): Promise<void> {
    const [before, bytes] = [this.#kind.encode(found.record), this.#kind.encode(next)];
    if (before.equals(bytes)) return;
    const { signal } = options;
    const key = this.#kind.prefix + found.slot;
    const put = () => this.#repository.bucket.put(key, bytes, { condition: { etag: found.etag }, signal });
    const pinned = this.#kind.pinned(found.record);
    const news = this.#kind.pinned(next).filter((version) => !pinned.includes(version));
    if (news.length === 0) {
      await put();
      return;
    }
    const undo = async () => {
      const now = await this.find(next.id);
      if (now !== undefined && this.#kind.encode(now.record).equals(bytes))
        await this.#repository.bucket.put(key, before, { condition: { etag: now.etag } });
    };
    // What the record kept before, it keeps until it keeps the next.
    await this.#guarded(news, put, undo, options);
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
}
