import { closeSync, fdatasyncSync, fsyncSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { DIGEST_BYTES, type Digest, digestFromBytes } from '../dataset/digest.ts';

/**
 * The names of objects that may not have reached the disk yet (docs/decisions/cache-durability.md). A name is in a journal,
 * durably, before the object gets it; the journal goes when a syncfs that began after its last object has ended.
 *
 *     offset  bytes  what
 *     0       36     the boot's id (/proc/sys/kernel/random/boot_id) under which it is written, ASCII
 *     36      28     zeros
 *     64      32·n   content ids, binary; zeros after the last
 *
 * Its file has its full length from the start, so that writing a name changes no metadata, and costs a disk no more than the name.
 */
const HEADER_BYTES = 64;
const CAPACITY = 32_000;

/**
 * How long a journal takes names, in milliseconds: what is lost from the cache when the machine crashes is about this much. It is
 * as long as the kernel itself leaves written pages in memory (vm.dirty_expire_centisecs); sooner, the syncfs costs.
 */
const SPAN = 30_000;

export interface JournalOptions {
  /** The layout's `journal`. */
  readonly directory: string;
  /** Unlike any other writer's that may write there now. */
  readonly name: string;
  readonly bootId: string;
  /** Told of a file that takes no more names: to be removed after a syncfs. */
  readonly onRetired: (file: string) => void;
}

export class Journal {
  readonly #options: JournalOptions;
  #serial = 0;
  #open: { file: string; descriptor: number; names: number; since: number } | undefined;

  constructor(options: JournalOptions) {
    this.#options = options;
  }

  /** Durable when it returns. Objects may then be renamed to these names, before the next call. */
  record(ids: readonly Digest[]): void {
    for (let from = 0; from < ids.length; ) {
      const open = this.#writable();
      const part = ids.slice(from, from + CAPACITY - open.names);
      const bytes = Buffer.from(part.join(''), 'hex');
      writeFully(open.descriptor, bytes, HEADER_BYTES + open.names * DIGEST_BYTES);
      fdatasyncSync(open.descriptor);
      open.names += part.length;
      from += part.length;
    }
  }

  /** Ends the file that is open. To be called when nothing is written any more, and whenever writing pauses. */
  retire(): void {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    closeSync(open.descriptor);
    this.#options.onRetired(open.file);
  }

  #writable() {
    if (this.#open && (this.#open.names >= CAPACITY || performance.now() - this.#open.since > SPAN)) this.retire();
    this.#open ??= this.#create();
    return this.#open;
  }

  #create() {
    const { directory, name, bootId } = this.#options;
    const file = `${directory}/${name}.${this.#serial++}`;
    const descriptor = openSync(file, 'wx', 0o600);
    const bytes = Buffer.alloc(HEADER_BYTES + CAPACITY * DIGEST_BYTES);
    bytes.write(bootId, 'latin1');
    writeFully(descriptor, bytes, 0);
    fsyncSync(descriptor);
    syncDirectory(directory);
    return { file, descriptor, names: 0, since: performance.now() };
  }
}

/** What the journals in `directory` tell, in no order. */
export function readJournals(directory: string): { file: string; bootId: string; ids: Digest[] }[] {
  return readdirSync(directory).map((name) => {
    const file = `${directory}/${name}`;
    const bytes = readFileSync(file);
    const ids: Digest[] = [];
    for (let at = HEADER_BYTES; at + DIGEST_BYTES <= bytes.length; at += DIGEST_BYTES) {
      // A crash can leave a name half written; its object was not renamed then, and removing what is not there is harmless.
      if (bytes.readBigUInt64LE(at) !== 0n || bytes.readBigUInt64LE(at + 8) !== 0n)
        ids.push(digestFromBytes(bytes, at));
    }
    return { file, bootId: bytes.toString('latin1', 0, 36).replace(/\0+$/, ''), ids };
  });
}

function writeFully(descriptor: number, bytes: Buffer, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at, bytes.length - at, position + at);
}

function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
