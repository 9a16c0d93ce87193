import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
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
const BOOT_ID_BYTES = 36;
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

interface OpenFile {
  readonly file: string;
  readonly descriptor: number;
  readonly since: number;
  readonly serial: number;
  names: number;
  /** Flushes of the disk that are under way or begin next: the file stays open for them. */
  syncs: number;
  /** The one under way, and the one that begins when it has ended: for all names that came meanwhile. */
  syncing?: Promise<void> | undefined;
  following?: Promise<void> | undefined;
  ended: boolean;
}

const sync = promisify(fdatasync);

export class Journal {
  readonly #options: JournalOptions;
  #serial = 0;
  #open: OpenFile | undefined;

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

  /** Of the file that is open; undefined where none is. Names that `foretell` wrote to another one count no more. */
  get generation(): number | undefined {
    return this.#open?.serial;
  }

  /**
   * Writes names of objects to come, while this thread goes on: while the generation is the one that it resolves to, objects may
   * be renamed to these names without `record`.
   * @param ids so many at most as one file takes
   */
  async foretell(ids: readonly Digest[]): Promise<number> {
    if (this.#open && this.#open.names + ids.length > CAPACITY) this.retire();
    const open = this.#writable();
    writeFully(open.descriptor, Buffer.from(ids.join(''), 'hex'), HEADER_BYTES + open.names * DIGEST_BYTES);
    open.names += ids.length;
    await this.#synced(open);
    return open.serial;
  }

  /** Ends the file that is open. To be called when nothing is written any more, and whenever writing pauses. */
  retire(): void {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    open.ended = true;
    if (open.syncs === 0) closeSync(open.descriptor);
    this.#options.onRetired(open.file);
  }

  /** What was written before the call is on the disk when it resolves. */
  #synced(open: OpenFile): Promise<void> {
    const begin = async () => {
      try {
        await sync(open.descriptor);
      } finally {
        open.syncs -= 1;
        if (open.ended && open.syncs === 0) closeSync(open.descriptor);
      }
    };
    if (!open.syncing) {
      open.syncs += 1;
      const syncing = begin().finally(() => {
        if (open.syncing === syncing) open.syncing = undefined;
      });
      open.syncing = syncing;
      return syncing;
    }
    if (!open.following) {
      open.syncs += 1;
      const following = open.syncing
        .catch(() => {})
        .then(() => {
          open.syncing = following;
          open.following = undefined;
          return begin();
        })
        .finally(() => {
          if (open.syncing === following) open.syncing = undefined;
        });
      open.following = following;
    }
    return open.following;
  }

  #writable() {
    if (this.#open && (this.#open.names >= CAPACITY || performance.now() - this.#open.since > SPAN)) this.retire();
    this.#open ??= this.#create();
    return this.#open;
  }

  #create(): OpenFile {
    const { directory, name, bootId } = this.#options;
    const serial = this.#serial++;
    const file = `${directory}/${name}.${serial}`;
    const descriptor = openSync(file, 'wx', 0o600);
    const bytes = Buffer.alloc(HEADER_BYTES + CAPACITY * DIGEST_BYTES);
    bytes.write(bootId, 'latin1');
    writeFully(descriptor, bytes, 0);
    fsyncSync(descriptor);
    syncDirectory(directory);
    return { file, descriptor, serial, names: 0, syncs: 0, ended: false, since: performance.now() };
  }
}

export interface ReadJournal {
  readonly file: string;
  readonly bootId: string;
  /** The names in it, read when they are asked for. */
  ids(): Generator<Digest>;
}

/** The journals in `directory`, in no order. */
export function readJournals(directory: string): ReadJournal[] {
  return readdirSync(directory).map((name) => {
    const file = `${directory}/${name}`;
    return { file, bootId: bootIdOf(file), ids: () => idsIn(file) };
  });
}

export function* idsIn(file: string): Generator<Digest> {
  const bytes = readFileSync(file);
  for (let at = HEADER_BYTES; at + DIGEST_BYTES <= bytes.length; at += DIGEST_BYTES) {
    // A crash can leave a name half written; its object was not renamed then, and removing what is not there is harmless.
    if (bytes.readBigUInt64LE(at) !== 0n || bytes.readBigUInt64LE(at + 8) !== 0n) yield digestFromBytes(bytes, at);
  }
}

function bootIdOf(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(BOOT_ID_BYTES);
    readSync(descriptor, bytes, 0, BOOT_ID_BYTES, 0);
    return bytes.toString('latin1').replace(/\0+$/, '');
  } finally {
    closeSync(descriptor);
  }
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
