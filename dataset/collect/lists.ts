import { readObject } from '../bucket/read-object.ts';
import { DIGEST_BYTES, sha256 } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import type { Repository } from '../repository.ts';
import type { Amount, Collected } from './state.ts';

/*
 * What is condemned, of one kind, in order; `gc/condemned/<run>/<kind>-<number of 5 digits>`:
 *
 *     4        `LGCL`
 *     u8       1, the format
 *     32 each  the digests, up to the checksum
 *     32       SHA-256 of all before it
 */

export const CONDEMNED = 'gc/condemned/';

const HEAD = Buffer.from('LGCL\u0001', 'latin1');
/** Digests in one object: 2 MiB. */
const LISTED = 65_536;
const LIMIT = HEAD.length + (LISTED + 1) * DIGEST_BYTES;

function listKey(run: string, kind: Collected, number: number): string {
  return `${CONDEMNED}${run}/${kind}-${String(number).padStart(5, '0')}`;
}

/** Writes one kind's list. */
export class ListWriter {
  readonly #repository: Repository | undefined;
  readonly #run: string;
  readonly #kind: Collected;
  readonly #signal: AbortSignal | undefined;
  #digests: Buffer[] = [];
  #lists = 0;
  #objects = 0;
  #bytes = 0;

  /** @param repository undefined to count only */
  constructor(repository: Repository | undefined, run: string, kind: Collected, signal?: AbortSignal) {
    this.#repository = repository;
    this.#run = run;
    this.#kind = kind;
    this.#signal = signal;
  }

  /** @param size the object's, in bytes */
  async add(digest: Uint8Array, size: number): Promise<void> {
    this.#objects += 1;
    this.#bytes += size;
    if (this.#repository === undefined) return;
    this.#digests.push(Buffer.from(digest));
    if (this.#digests.length === LISTED) await this.#write();
  }

  async finish(): Promise<Amount & { readonly lists: number }> {
    if (this.#digests.length > 0) await this.#write();
    return { objects: this.#objects, bytes: this.#bytes, lists: this.#lists };
  }

  async #write(): Promise<void> {
    const body = Buffer.concat([HEAD, ...this.#digests]);
    const object = Buffer.concat([body, Buffer.from(sha256(body), 'hex')]);
    this.#digests = [];
    this.#lists += 1;
    const key = listKey(this.#run, this.#kind, this.#lists);
    await this.#repository!.bucket.put(key, object, { signal: this.#signal });
  }
}

/** The digests of a kind's lists, in order; their bytes are the caller's. */
export async function* readLists(
  { bucket }: Repository,
  run: string,
  kind: Collected,
  lists: number,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  for (let number = 1; number <= lists; number++) {
    const key = listKey(run, kind, number);
    let bytes: Buffer;
    try {
      ({ bytes } = await readObject(bucket, key, LIMIT, { signal }));
    } catch (error) {
      // Whoever removed it has spared what it lists.
      if (error instanceof NotFoundError) return;
      throw error;
    }
    const end = bytes.length - DIGEST_BYTES;
    const sound =
      end >= HEAD.length &&
      (end - HEAD.length) % DIGEST_BYTES === 0 &&
      bytes.subarray(0, HEAD.length).equals(HEAD) &&
      bytes.subarray(end).toString('hex') === sha256(bytes.subarray(0, end));
    if (!sound)
      throw new CorruptError(
        `${key} in ${bucket.name} is damaged: remove gc/state, and the next collection starts anew`,
        {
          facts: { object: key },
        },
      );
    for (let at = HEAD.length; at < end; at += DIGEST_BYTES) yield bytes.subarray(at, at + DIGEST_BYTES);
  }
}
