import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type ByteString, bufferOf, bytesOf, textOf } from './byte-string.ts';
import { batchOf } from './checkout/file-batch.ts';
import { Layout } from './checkout/layout.ts';
import { type PlacedChunk, planStretches, type Stretch } from './checkout/plan.ts';
import type { CheckoutReply, CheckoutTask, CheckoutWorkerData, ChunkTarget } from './checkout/worker.ts';
import type { Digest } from './digest.ts';
import type { DirectoryEntry, FileEntry } from './entry.ts';
import { ConflictError, isErrno } from './errors.ts';
import { DeepPaths, fsPath } from './import/deep-path.ts';
import { refOf } from './manifest/segments.ts';
import { readAnySegment } from './manifest.ts';
import { readFile } from './read-file.ts';
import type { Repository } from './repository.ts';
import { Pool } from './threads/pool.ts';

export interface CheckoutOptions {
  /** Write into a directory that is not empty: what stands in the way is replaced, the rest stays. */
  readonly force?: boolean;
  readonly onProgress?: (progress: CheckoutProgress) => void;
  /** Told of what could not be kept, in words for people. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

export interface CheckoutProgress {
  readonly phase: string;
  readonly files: number;
  readonly bytes: number;
  readonly totalFiles: number;
  readonly totalBytes: number;
}

export interface CheckoutResult {
  /** Entries written, directories and links among them. */
  readonly files: number;
  /** The sum of the files' sizes. */
  readonly bytes: number;
}

/** What one task reads of a pack, in bytes and in chunks. */
const RUN_BYTES = 4 << 20;
const RUN_CHUNKS = 512;
/** Bytes between wanted chunks that are read rather than asked around. */
const GAP = 256 << 10;
/** Entries in a task that reads nothing. */
const PLAIN = 256;
/** Files that are copied from their buckets at a time. */
const IN_PLACE_AT_ONCE = 16;
/** Tasks that each thread has at a time. */
const TASKS_PER_THREAD = 3;

/**
 * Makes a plain copy of a tree: contents, modes, times to the nanosecond, attributes, links and holes, and owners where root does it. Each
 * pack is read in its order, by several threads. Nothing is seen under its own name before it is whole; a crash leaves at most what begins
 * with `.larder-`.
 */
export async function checkout(
  repository: Repository,
  root: Digest,
  directory: string,
  options: CheckoutOptions = {},
): Promise<CheckoutResult> {
  const target = bytesOf(resolve(directory));
  const isStaged = prepareTarget(directory, options.force ?? false);
  const ref = refOf(root, await readAnySegment(repository, root, options.signal));
  const totals = { totalFiles: ref?.entries ?? 0, totalBytes: ref?.bytes ?? 0 };
  const data: CheckoutWorkerData = {
    repository: repository.location,
    root: target,
    isStaged,
    unique: `${process.pid}-${randomBytes(4).toString('hex')}`,
  };
  await using pool = new Pool<CheckoutTask, CheckoutReply>({
    module: new URL('./checkout/worker.ts', import.meta.url),
    data,
  });
  const layout = new Layout(target, data.unique, isStaged);
  const run = new Checkout(repository, pool, layout, totals, options);
  try {
    if (isStaged) mkdirSync(bufferOf(layout.stage), 0o700);
    for await (const stretch of oneAhead(planStretches(repository, root, options.signal))) await run.write(stretch);
    return await run.finish();
  } catch (error) {
    await run.stop(error);
    await pool.close();
    if (isStaged) await rm(bufferOf(layout.stage), { recursive: true, force: true });
    throw error;
  }
}

class Checkout {
  readonly #repository: Repository;
  readonly #pool: Pool<CheckoutTask, CheckoutReply>;
  readonly #layout: Layout;
  readonly #totals: { readonly totalFiles: number; readonly totalBytes: number };
  readonly #options: CheckoutOptions;
  readonly #deep = new DeepPaths();
  readonly #targetDeep = new DeepPaths();
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;
  /** Directories are completed one batch after the other: a mode may shut out what comes after. */
  #completing: Promise<void> = Promise.resolve();
  #files = 0;
  #bytes = 0;
  /** The root and directories right in it, which are completed when they are at their places. */
  readonly #outermost: DirectoryEntry[] = [];
  #lostXattrs = 0;
  /** Files that are being copied from their buckets. */
  readonly #bringing = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #signal: AbortSignal;

  constructor(
    repository: Repository,
    pool: Pool<CheckoutTask, CheckoutReply>,
    layout: Layout,
    totals: { readonly totalFiles: number; readonly totalBytes: number },
    options: CheckoutOptions,
  ) {
    this.#repository = repository;
    this.#pool = pool;
    this.#layout = layout;
    this.#totals = totals;
    this.#options = options;
    const { signal } = this.#stopping;
    this.#signal = options.signal ? AbortSignal.any([options.signal, signal]) : signal;
  }

  async write(stretch: Stretch): Promise<void> {
    const { directories, plain, composed, inPlace, packs, links, complete } = stretch;
    for (const { path } of directories) this.#makeDirectory(path);
    this.#count(directories.length, 0);

    for (let i = 0; i < plain.length; i += PLAIN) {
      const batch = plain.slice(i, i + PLAIN);
      const contents = batch.map((entry) =>
        entry.type === 'symlink' ? entry.target : new Uint8Array((entry.content as { bytes: Buffer }).bytes),
      );
      const bytes = batch.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0);
      await this.#start({ kind: 'plain', batch: batchOf(batch), contents }, () => this.#count(batch.length, bytes));
    }

    /** Files of several parts, with how many of their chunks are still to come. */
    const unfinished = new Map<FileEntry, { readonly temporary: ByteString; left: number }>();
    for (const file of composed) {
      const temporary = this.#makeTemporary(file);
      const left = (file.content as { parts: readonly { chunk?: Digest }[] }).parts.filter(({ chunk }) => chunk).length;
      unfinished.set(file, { temporary, left });
      if (left === 0) await this.#finishFile(file, temporary);
    }
    for (const [pack, chunks] of packs)
      for (const run of cutRuns(chunks)) {
        const files = run.flatMap((chunk) => chunk.files);
        let index = 0;
        const targets = run.map(({ location, files, parts }): ChunkTarget => {
          const { id, offset, stored, length, codec } = location;
          return {
            id,
            offset,
            stored,
            length,
            codec,
            files: files.map(() => index++),
            parts: parts.map(({ file, at }) => ({ temporary: unfinished.get(file)!.temporary, at })),
          };
        });
        await this.#start({ kind: 'chunks', pack, chunks: targets, batch: batchOf(files) }, async () => {
          this.#count(
            files.length,
            files.reduce((sum, { size }) => sum + size, 0),
          );
          for (const { parts, location } of run)
            for (const { file } of parts) {
              this.#count(0, location.length);
              const state = unfinished.get(file)!;
              state.left--;
              if (state.left === 0) await this.#finishFile(file, state.temporary);
            }
        });
      }
    for (const file of inPlace) await this.#bring(file);
    await this.#settle();

    for (const { path, target } of links) this.#link(path, target);
    this.#count(links.length, 0);
    const inner: DirectoryEntry[] = [];
    for (const entry of complete) (entry.path.includes('/') ? inner : this.#outermost).push(entry);
    if (inner.length === 0) return;
    const task: CheckoutTask = { kind: 'directories', batch: batchOf(inner), moved: false };
    this.#completing = this.#completing.then(() => this.#run(task, () => {}));
    // It is waited for at the end; a failure comes out then, or at the next stretch.
    this.#completing.catch((error: unknown) => {
      this.#failure ??= { error };
    });
  }

  async finish(): Promise<CheckoutResult> {
    await this.#completing;
    await this.#settle();
    this.#deep.close();
    if (this.#layout.isStaged) {
      for (const { path } of this.#outermost)
        if (path !== '') renameSync(bufferOf(this.#layout.place(path, true)), bufferOf(this.#layout.final(path)));
      rmdirSync(bufferOf(this.#layout.stage));
    }
    await this.#run({ kind: 'directories', batch: batchOf(this.#outermost), moved: true }, () => {});
    this.#targetDeep.close();
    if (this.#lostXattrs > 0)
      this.#options.onWarning?.(`the file system at the target keeps no attributes: ${this.#lostXattrs} were left out`);
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Ends what this thread copies itself; its files are gone or closed afterwards. */
  async stop(reason: unknown): Promise<void> {
    this.#stopping.abort(reason);
    await Promise.allSettled(this.#bringing);
  }

  /** Starts a task once there is room for it. */
  async #start(task: CheckoutTask, done: () => void | Promise<void>): Promise<void> {
    while (this.#running.size >= TASKS_PER_THREAD * this.#pool.size && this.#failure === undefined)
      await Promise.race(this.#running);
    this.#check();
    const running: Promise<void> = this.#run(task, done)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #run(task: CheckoutTask, done: () => void | Promise<void>): Promise<void> {
    const { lostXattrs } = await this.#pool.run(task).result;
    this.#lostXattrs += lostXattrs;
    await done();
  }

  /** Starts to copy a file from the bucket where it is, once fewer are under way. */
  async #bring(file: FileEntry): Promise<void> {
    while (this.#running.size >= IN_PLACE_AT_ONCE && this.#failure === undefined) await Promise.race(this.#running);
    this.#check();
    const bring = async () => {
      const temporary = this.#makeTemporary(file);
      try {
        const fd = openSync(this.#reach(temporary), constants.O_WRONLY | constants.O_NOFOLLOW);
        try {
          let at = 0;
          for await (const block of readFile(this.#repository, file, { signal: this.#signal })) {
            for (let done = 0; done < block.length; )
              done += writeSync(fd, block, done, block.length - done, at + done);
            at += block.length;
            this.#count(0, block.length);
          }
        } finally {
          closeSync(fd);
        }
        await this.#finishFile(file, temporary);
      } catch (error) {
        rmSync(this.#reach(temporary), { force: true });
        throw error;
      }
    };
    const running: Promise<void> = bring()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#running.delete(running);
        this.#bringing.delete(running);
      });
    this.#running.add(running);
    this.#bringing.add(running);
  }

  async #settle(): Promise<void> {
    while (this.#running.size > 0 && this.#failure === undefined) await Promise.race(this.#running);
    this.#check();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#options.signal?.throwIfAborted();
  }

  async #finishFile(file: FileEntry, temporary: ByteString): Promise<void> {
    await this.#run({ kind: 'finish', batch: batchOf([file]), temporaries: [temporary] }, () => this.#count(1, 0));
  }

  #count(files: number, bytes: number): void {
    this.#files += files;
    this.#bytes += bytes;
    this.#options.onProgress?.({ phase: 'writing', files: this.#files, bytes: this.#bytes, ...this.#totals });
  }

  #makeDirectory(path: ByteString): void {
    const at = fsPath(this.#deep.reach(this.#layout.place(path, true)));
    try {
      // Open for its owner only until it has its own mode.
      mkdirSync(at, 0o700);
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
      // The target itself, or `force`. A link there would lead out of the target.
      if (path !== '' && !lstatSync(at).isDirectory())
        throw new ConflictError(
          `'${textOf(path)}' in the target is not a directory; remove it, or choose another target`,
          {
            cause: error,
            facts: { path: textOf(path) },
          },
        );
    }
  }

  /** An empty file of the whole length, beside the one that it becomes. */
  #makeTemporary(file: FileEntry): ByteString {
    const temporary = this.#layout.temporaryFor(file.path, 0);
    const fd = openSync(
      this.#reach(temporary),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      ftruncateSync(fd, file.size);
    } finally {
      closeSync(fd);
    }
    return temporary;
  }

  #link(path: ByteString, target: ByteString): void {
    const from = fsPath(this.#targetDeep.reach(this.#layout.place(target)));
    try {
      linkSync(from, this.#reach(path));
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
      const temporary = this.#layout.temporaryFor(path, 0);
      linkSync(from, this.#reach(temporary));
      renameSync(this.#reach(temporary), this.#reach(path));
      // Where both were names of one file already, rename(2) does nothing.
      rmSync(this.#reach(temporary), { force: true });
    }
  }

  #reach(path: ByteString): string | Buffer {
    return fsPath(this.#deep.reach(this.#layout.place(path)));
  }
}

/** The same values; the next is made while the consumer works on one. */
async function* oneAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    for (let next = source.next(); ; ) {
      const { done, value } = await next;
      if (done) return;
      next = source.next();
      // A failure comes when its turn does.
      next.catch(() => undefined);
      yield value;
    }
  } finally {
    await source.return(undefined);
  }
}

/** Makes the target if need be. Whether it is empty. */
function prepareTarget(directory: string, force: boolean): boolean {
  mkdirSync(resolve(directory), { recursive: true });
  const isEmpty = readdirSync(directory).length === 0;
  if (!isEmpty && !force)
    throw new ConflictError(
      `${directory} is not empty; choose a directory that is empty or not there, or use --force`,
      {
        facts: { directory },
      },
    );
  return isEmpty;
}

/** Neighbouring chunks of a pack that one task reads together. */
function* cutRuns(chunks: readonly PlacedChunk[]): Generator<PlacedChunk[]> {
  const sorted = chunks.toSorted((a, b) => a.location.offset - b.location.offset);
  let run: PlacedChunk[] = [];
  let start = 0;
  let end = 0;
  for (const chunk of sorted) {
    const { offset, stored } = chunk.location;
    const far = offset - end > GAP || offset + stored - start > RUN_BYTES || run.length >= RUN_CHUNKS;
    if (run.length > 0 && far) {
      yield run;
      run = [];
    }
    if (run.length === 0) start = offset;
    run.push(chunk);
    end = offset + stored;
  }
  if (run.length > 0) yield run;
}
