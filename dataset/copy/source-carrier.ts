import { readObject } from '../bucket/read-object.ts';
import type { Entry } from '../entry.ts';
import { ConflictError, CorruptError, NotFoundError } from '../errors.ts';
import { sourceKey } from '../keys.ts';
import type { Repository } from '../repository.ts';

/** The longest record of a source, in bytes. */
const RECORD_LIMIT = 64 * 1024;

/**
 * Carries the records of where buckets are that entries refer to; their objects stay where they are. A record comes before the leaf that
 * needs it.
 */
export class SourceCarrier {
  readonly #from: Repository;
  readonly #to: Repository;
  readonly #signal: AbortSignal | undefined;
  readonly #done = new Set<string>();

  constructor(from: Repository, to: Repository, signal?: AbortSignal) {
    this.#from = from;
    this.#to = to;
    this.#signal = signal;
  }

  async carry(entries: Iterable<Entry>): Promise<void> {
    for (const entry of entries) {
      if (entry.type !== 'file' || entry.content.kind !== 'source') continue;
      const { bucket } = entry.content;
      if (this.#done.has(bucket)) continue;
      await this.#carryRecord(bucket);
      this.#done.add(bucket);
    }
  }

  async #carryRecord(name: string): Promise<void> {
    const key = sourceKey(name);
    const options = { signal: this.#signal };
    const record = await readRecord(this.#from, key, options);
    if (record === undefined)
      throw new CorruptError(
        `${key} is missing from ${this.#from.location}: it tells where the bucket '${name}' is, to which files refer`,
        { facts: { object: key, bucket: name, fault: 'missing' } },
      );
    try {
      await this.#to.bucket.put(key, record, { condition: 'absent', signal: this.#signal });
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      const there = await readRecord(this.#to, key, options);
      if (there?.equals(record)) return;
      throw new ConflictError(
        `the repositories ${this.#from.location} and ${this.#to.location} tell of different places for the bucket '${name}' (${key}): ` +
          'files that refer to it would be read from the wrong one; make the records equal if they mean the same',
        { cause: error, facts: { object: key, bucket: name } },
      );
    }
  }
}

async function readRecord(
  { bucket }: Repository,
  key: string,
  options: { readonly signal: AbortSignal | undefined },
): Promise<Buffer | undefined> {
  try {
    return (await readObject(bucket, key, RECORD_LIMIT, options)).bytes;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
