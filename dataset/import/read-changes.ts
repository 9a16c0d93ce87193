import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Content, FileEntry, Part, Xattr } from '../entry.ts';
import { partsId } from '../format/parts.ts';
import type { EntryChange } from '../manifest.ts';
import type { Job, Pool } from '../threads/pool.ts';
import { BLOCK, type Block, BlockRow, Blocks, extraBlocks, type Shared } from './block.ts';
import { LinkGroups } from './link-groups.ts';
import { FACT, FACTS, factsOf, type PendingFile } from './pending.ts';
import { BATCHED, READ, type ReadFiles, type StreamedFile, type StreamPart } from './reader.ts';
import { freeBuffer, SLAB_CHUNK } from './slab.ts';
import type { ImportTask } from './worker.ts';

/** A change to a tree in which a file's content may still have to be read. In path order. */
export type Change = EntryChange | { readonly kind: 'read'; readonly file: PendingFile };

/** A chunk as it is stored. */
export interface StoredChunk {
  readonly id: Digest;
  /** In bytes, uncompressed. */
  readonly length: number;
  readonly codec: 'raw' | 'zstd';
  /** In one piece; in a block, perhaps in several. */
  readonly bytes: Buffer | readonly Buffer[];
  /** The chunk is a whole file. */
  readonly whole: boolean;
  /** Where the bytes lie, if they need not be copied: whoever keeps them holds it until they are written. */
  readonly block?: Shared;
}

export interface ReadChangesOptions {
  /** The threads that read: asked for with the first file that is to be read. */
  readonly pool: () => Pool<ImportTask, unknown>;
  /**
   * Stores a chunk if it is not stored yet; where it gives a promise, no more is read until it resolves. Outside a block, it copies the
   * bytes of chunks of up to `SLAB_CHUNK`; the memory of larger ones is its own.
   */
  readonly store: (chunk: StoredChunk) => Promise<void> | undefined;
  readonly onRead?: (files: number, bytes: number) => void;
  /** Told of files that went before they were read; they are deleted. */
  readonly onVanished?: (path: ByteString) => void;
  readonly signal?: AbortSignal;
}

/** Files of one task of a thread: this many bytes, or this many files. */
const BATCH_BYTES = BLOCK;
const BATCH_FILES = 256;
/** Batches of fewer bytes get no block of their own: it would be kept for too little. */
const BLOCK_MIN = BLOCK / 2;
/** Files from this size on are put into blocks, of which the last is not full. */
const BLOCKS_FROM = 8 * BLOCK;
/** What is read ahead, in bytes and in tasks for each thread. */
const AHEAD_BYTES_PER_THREAD = 8 << 20;
const AHEAD_TASKS_PER_THREAD = 4;
/** How many threads there are at least. */
const THREADS = 2;
/** Changes given at a time where nothing is read. */
const PLAIN_CHANGES = 1024;

/** Changes that go on together, once the files among them are read. */
type Step = Batch | Stream;

interface Batch {
  readonly kind: 'batch';
  /** In path order: changes, files that this step reads, files that share the content of one read before. */
  readonly items: readonly (EntryChange | PendingFile | Linked)[];
  readonly files: readonly PendingFile[];
  readonly bytes: number;
  readonly job: Job<unknown> | undefined;
  /** Where the thread puts what it read; undefined for few bytes. */
  readonly block: Block | undefined;
}

interface Stream {
  readonly kind: 'stream';
  readonly file: PendingFile;
  readonly bytes: number;
  readonly job: Job<unknown>;
  readonly parts: Parts;
  /** Where the thread puts the chunks of a file that is large enough. */
  readonly row: BlockRow | undefined;
}

interface Linked {
  readonly kind: 'linked';
  readonly file: PendingFile;
}

/**
 * Reads the files among changes with many threads at a time, some way ahead, and stores their chunks; gives the changes again in the
 * same order, without anything left to read. Memory depends on the number of threads only.
 */
export async function* readChanges(
  changes: AsyncIterable<readonly Change[]>,
  options: ReadChangesOptions,
): AsyncGenerator<EntryChange[]> {
  const { signal } = options;
  let threads = THREADS;
  const pool = () => {
    const started = options.pool();
    threads = started.size;
    return started;
  };
  const links = new LinkGroups<FileEntry>();
  const blocks = new Blocks();
  const steps = planSteps(changes, pool, blocks);
  const queue: Step[] = [];
  let bytes = 0;
  let ended = false;
  /** The next step, while the source works on it. */
  let coming: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;

  const fetch = () => {
    coming ??= steps.next().then(
      ({ done, value }) => {
        coming = undefined;
        if (done) ended = true;
        else {
          bytes += value.bytes;
          queue.push(value);
        }
      },
      (error: unknown) => {
        failure = { error };
        coming = undefined;
        ended = true;
      },
    );
    return coming;
  };
  const hasRoom = () => bytes < AHEAD_BYTES_PER_THREAD * threads && queue.length < AHEAD_TASKS_PER_THREAD * threads;
  /** Keeps fetching in the background while there is room. */
  const fill = async () => {
    while (!ended && hasRoom()) await fetch();
  };

  try {
    let filling: Promise<void> | undefined;
    for (;;) {
      signal?.throwIfAborted();
      if (!filling && !ended && hasRoom())
        filling = fill().finally(() => {
          filling = undefined;
        });
      const step = queue[0];
      if (step === undefined) {
        if (ended) break;
        await (coming ?? fetch());
        continue;
      }
      const given =
        step.kind === 'batch' ? await readBatch(step, links, options) : await readStream(step, links, options);
      queue.shift();
      bytes -= step.bytes;
      yield given;
    }
    if (failure) throw failure.error;
  } finally {
    await steps.return(undefined);
  }
}

async function* planSteps(
  changes: AsyncIterable<readonly Change[]>,
  pool: () => Pool<ImportTask, unknown>,
  blocks: Blocks,
): AsyncGenerator<Step, void, undefined> {
  /** Inodes of several names whose first name was met. */
  const met = new LinkGroups<number>();
  let items: Batch['items'][number][] = [];
  let files: PendingFile[] = [];
  let bytes = 0;
  const cut = (): Batch => {
    const block = bytes >= BLOCK_MIN ? blocks.take() : undefined;
    const step: Batch = { kind: 'batch', items, files, bytes, block, job: startBatch(files, bytes, block, pool) };
    items = [];
    files = [];
    bytes = 0;
    return step;
  };
  for await (const batch of changes) {
    for (const change of batch) {
      if (change.kind !== 'read') {
        items.push(change);
        if (items.length >= PLAIN_CHANGES) yield cut();
        continue;
      }
      const { file } = change;
      if (file.link !== undefined) {
        if (met.take(file.link) === file.identity.inode) {
          items.push({ kind: 'linked', file });
          continue;
        }
        met.add(file.link, file.identity.inode, file.names);
      }
      if (file.size > BATCHED) {
        if (items.length > 0) yield cut();
        yield startStream(file, pool(), file.size >= BLOCKS_FROM ? new BlockRow(blocks) : undefined);
        continue;
      }
      if (bytes + file.size > BATCH_BYTES && files.length > 0) yield cut();
      items.push(file);
      files.push(file);
      bytes += file.size;
      if (files.length >= BATCH_FILES || items.length >= PLAIN_CHANGES) yield cut();
    }
    // Few changes are not held back: a source that waits for more may wait long.
    if (items.length > 0 && batch.length < BATCH_FILES) yield cut();
  }
  if (items.length > 0) yield cut();
}

function startBatch(
  files: readonly PendingFile[],
  bytes: number,
  block: Block | undefined,
  pool: () => Pool<ImportTask, unknown>,
): Job<unknown> | undefined {
  if (files.length === 0) return undefined;
  const facts = new Float64Array(files.length * FACTS);
  for (const [i, file] of files.entries()) factsOf(file, facts, i * FACTS);
  const task: ImportTask = { kind: 'batch', paths: files.map(({ from }) => from), facts, block: block?.memory };
  // Opening a file costs about what reading this many bytes does.
  return pool().run(task, { transfer: [facts.buffer], weight: bytes + files.length * 16_384 });
}

function startStream(file: PendingFile, pool: Pool<ImportTask, unknown>, row?: BlockRow): Stream {
  const facts = new Float64Array(FACTS);
  factsOf(file, facts, 0);
  const parts = new Parts();
  const part = (taken: StreamPart) => {
    if (taken.kind === 'blocks') row?.supply(taken.extra, job.give);
    else parts.push(taken);
  };
  const job: Job<unknown> = pool.run(
    { kind: 'stream', path: file.from, facts, inBlocks: row !== undefined },
    { transfer: [facts.buffer], weight: file.size, part },
  );
  job.result.then(
    () => parts.end(),
    () => parts.end(),
  );
  // What is under way of a stream is limited by the thread itself: it counts as the most that a thread sends ahead.
  return {
    kind: 'stream',
    file,
    bytes: Math.min(file.size, AHEAD_BYTES_PER_THREAD),
    job,
    parts,
    row,
  };
}

async function readBatch(
  step: Batch,
  links: LinkGroups<FileEntry>,
  options: ReadChangesOptions,
): Promise<EntryChange[]> {
  const result = step.job && ((await step.job.result) as ReadFiles);
  // A block that is mostly empty, since its chunks compressed well, is not kept for them: they are copied.
  const block = result && result.bytes.length >= BLOCK_MIN ? step.block : undefined;
  const given: EntryChange[] = [];
  let at = 0;
  let offset = 0;
  for (const item of step.items) {
    if ('kind' in item) {
      if (item.kind !== 'linked') {
        given.push(item);
        continue;
      }
      const { file } = item;
      const first = links.take(file.link!);
      // Where the first name went before it was read, this one is read.
      const change = first
        ? ({ kind: 'put', entry: { ...first, path: file.path } } as const)
        : await readAlone(file, links, options);
      given.push(change);
      continue;
    }
    const file = item;
    const i = at++;
    const { states, stored, bytes, digests, facts, xattrs } = result!;
    const length = stored[i]!;
    const state = states[i]!;
    if (state === READ.vanished) {
      options.onVanished?.(file.path);
      given.push({ kind: 'delete', path: file.path });
      continue;
    }
    if (state === READ.large || state === READ.sparse) {
      given.push(await readAlone(file, links, options));
      continue;
    }
    const data = Buffer.from(bytes.buffer, bytes.byteOffset + offset, length);
    offset += length;
    const own = facts.subarray(i * FACTS, (i + 1) * FACTS);
    let content: Content;
    // A copy: the batch's memory goes back at once.
    if (state === READ.inline) content = { kind: 'inline', bytes: Buffer.from(data) };
    else {
      const id = digests[i] as Digest;
      content = { kind: 'chunk', id };
      const codec = state === READ.zstd ? 'zstd' : 'raw';
      const wait = options.store({ id, length: own[FACT.size]!, codec, bytes: data, whole: true, block });
      if (wait) await wait;
    }
    given.push(putOf(file, own, xattrs.get(i), content, links));
  }
  if (step.block) step.block.seal();
  else if (result) freeBuffer(result.bytes);
  if (step.files.length > 0) options.onRead?.(step.files.length, step.bytes);
  return given;
}

async function readStream(
  { file, job, parts, row }: Stream,
  links: LinkGroups<FileEntry>,
  { store, onRead, onVanished }: ReadChangesOptions,
): Promise<EntryChange[]> {
  let list: Part[] = [];
  for await (const part of parts) {
    if (part.kind === 'again') list = [];
    else if (part.kind === 'hole') list.push({ length: part.length });
    else if (part.kind === 'block-chunk') {
      const { digest, length, codec, whole, extents } = part;
      const chunk = row!.at(extents);
      const wait = store({ id: digest, length, codec, whole, ...chunk });
      if (wait) await wait;
      list.push({ chunk: digest, length });
      row!.pass(extents.at(-1)!.block);
      // What it asked for besides was for this chunk.
      row!.supply(-extraBlocks(chunk.bytes.reduce((sum, piece) => sum + piece.length, 0)), job.give);
      onRead?.(0, length);
    } else if (part.kind === 'chunk') {
      const { digest, length, codec, whole } = part;
      const bytes = Buffer.from(part.bytes.buffer, part.bytes.byteOffset, part.bytes.byteLength);
      const wait = store({ id: digest, length, codec, bytes, whole });
      if (wait) await wait;
      list.push({ chunk: digest, length });
      // Before the memory goes.
      const { length: sent } = bytes;
      if (sent <= SLAB_CHUNK) freeBuffer(part.bytes);
      job.credit(sent);
      onRead?.(0, length);
    }
  }
  const { vanished, facts, xattrs } = (await job.result) as StreamedFile;
  row?.end();
  onRead?.(1, 0);
  if (vanished) {
    onVanished?.(file.path);
    return [{ kind: 'delete', path: file.path }];
  }
  return [putOf(file, facts, xattrs, contentOf(list), links)];
}

async function readAlone(
  file: PendingFile,
  links: LinkGroups<FileEntry>,
  options: ReadChangesOptions,
): Promise<EntryChange> {
  const [change] = await readStream(startStream(file, options.pool()), links, options);
  return change!;
}

function contentOf(parts: readonly Part[]): Content {
  if (parts.length === 0) return { kind: 'inline', bytes: Buffer.alloc(0) };
  const [first] = parts;
  if (parts.length === 1 && first!.chunk !== undefined) return { kind: 'chunk', id: first!.chunk };
  return { kind: 'chunks', id: partsId(parts), parts };
}

function putOf(
  file: PendingFile,
  facts: Float64Array,
  found: readonly Xattr[] | undefined,
  content: Content,
  links: LinkGroups<FileEntry>,
): EntryChange {
  const xattrs = file.xattrs ?? found?.map(({ name, value }) => ({ name, value: Buffer.from(value) }));
  const entry: FileEntry = {
    type: 'file',
    path: file.path,
    ...(file.owner ?? { mode: facts[FACT.mode]!, uid: facts[FACT.uid]!, gid: facts[FACT.gid]! }),
    mtimeSeconds: facts[FACT.mtimeSeconds]!,
    mtimeNanos: facts[FACT.mtimeNanos]!,
    ...(xattrs !== undefined && xattrs.length > 0 && { xattrs }),
    size: facts[FACT.size]!,
    content,
    ...(file.link !== undefined && { link: file.link }),
  };
  if (file.link !== undefined) links.add(file.link, entry, file.names);
  return { kind: 'put', entry };
}

/** Parts of a stream, from the thread that makes them to the one place that takes them. */
class Parts implements AsyncIterable<StreamPart> {
  readonly #queue: StreamPart[] = [];
  #ended = false;
  #wake: (() => void) | undefined;

  push(part: StreamPart): void {
    this.#queue.push(part);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StreamPart> {
    for (;;) {
      const part = this.#queue.shift();
      if (part !== undefined) yield part;
      else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}
