import { constants } from 'node:os';
import { OPEN_FLAG, S_IFREG } from './protocol.ts';
import { type Attributes, attributesReply, emptyReply, entryReply, errorReply, FOREVER, openReply } from './reply.ts';
import type { Forgotten, FuseRequest } from './request.ts';
import type { LocalBlocks, Reopen, RingFile } from './ring-file.ts';
import type { Holds } from './ring-holds.ts';
import { isFileNode, type NodeRecord, type NodeTable } from './ring-nodes.ts';
import { createReads } from './ring-reads.ts';
import { createWaits } from './ring-waits.ts';
import type { AnswerPort } from './session.ts';

const { EIO } = constants.errno;

/** Handles of opens: all that RELEASE must tell. */
const CACHED = 1n;
const PASSED = 2n;
/** How long a file that is not open is kept for the next open, in ms, unless told otherwise. */
const LINGER = 5000;

/** What opens are passed through to. */
export interface PassThrough {
  /** Registers the file at `path`, if it has `size` bytes, and gives the kernel's number of it. Undefined where that cannot be. */
  open(path: string, size: number): number | undefined;
  close(backing: number): void;
}

/** The blocks that the reading threads answer from. */
export interface SharedBlocks {
  add(node: bigint, size: number, blocks: LocalBlocks): void;
  /** Resolves when no thread uses them any more. */
  drop(node: bigint): Promise<void>;
}

export interface FilesOptions {
  readonly table: NodeTable;
  readonly holds: Holds;
  readonly reopen: Reopen;
  /** In ms, of each open and read of this id. */
  readonly deadlineOf: (id: string) => number;
  /** How long a file that is not open is kept for the next open, in ms. */
  readonly linger?: number | undefined;
  /** The longest READ, in bytes. */
  readonly maxRead: number;
  readonly passThrough?: PassThrough | undefined;
  readonly blocks?: SharedBlocks | undefined;
  readonly onFailure?: ((id: string, error: unknown) => void) | undefined;
}

export interface FileCounters {
  readonly opens: number;
  readonly passedOpens: number;
  /** READs that came to this thread, the bytes they were answered with, and how many ended without. */
  readonly reads: number;
  readonly readBytes: number;
  readonly readsFailed: number;
  readonly readsExpired: number;
  /** Now: file nodes that the kernel knows, and files that are open for them. */
  readonly fileNodes: number;
  readonly files: number;
}

/** What the ring does with its file nodes. */
export interface FileNodes {
  /** Answers a LOOKUP of an id that the kernel has a node of; false where there is none. */
  known(id: string, request: FuseRequest, port: AnswerPort): boolean;
  /** The answer to a LOOKUP that brought a file, and what to do when the kernel did not take it. */
  give(
    id: string,
    file: RingFile,
  ): { readonly answer: (unique: bigint) => Buffer; readonly late: () => void } | undefined;
  /** Handles OPEN, READ, RELEASE, GETATTR and FORGET of file nodes. */
  handle(request: FuseRequest, port: AnswerPort): void;
  counters(): FileCounters;
  release(): void;
}

/** A file that is there for a node now. */
export interface OpenedFile {
  readonly file: RingFile;
  /** The reading threads have its blocks. */
  shared: boolean;
  /** Reads under way. */
  reading: number;
  linger: NodeJS.Timeout | undefined;
}

export function attributesOfFile(node: bigint, size: number): Attributes {
  return { ino: node, mode: S_IFREG | 0o444, size, nlink: 1, uid: 0, gid: 0, time: 0 };
}

export function createFiles(options: FilesOptions): FileNodes {
  const { table, holds, deadlineOf, maxRead, passThrough, blocks, onFailure } = options;
  const opened = new Map<bigint, OpenedFile>();
  const waits = createWaits<RingFile | undefined>({
    resolve: options.reopen,
    deadlineOf,
    onFailure,
    unwanted: (file) => file && end(file),
  });
  // Several who waited may bring the same one.
  const ended = new WeakSet<RingFile>();
  const end = (file: RingFile) => {
    if (ended.has(file)) return;
    ended.add(file);
    file.close();
  };
  const counters = { opens: 0, passedOpens: 0 };
  const reads = createReads({
    holds,
    deadlineOf,
    maxRead,
    onFailure,
    opened: (record) => opened.get(record.node),
    bring,
  });

  function isOpen(record: NodeRecord): boolean {
    return record.cached + record.passed > 0;
  }

  function adopt(record: NodeRecord, file: RingFile): OpenedFile {
    const before = opened.get(record.node);
    if (before) {
      if (before.file !== file) end(file);
      return before;
    }
    const one: OpenedFile = { file, shared: false, reading: 0, linger: undefined };
    opened.set(record.node, one);
    if (!isOpen(record)) linger(record, one);
    return one;
  }

  function linger(record: NodeRecord, one: OpenedFile): void {
    clearTimeout(one.linger);
    one.linger = setTimeout(() => {
      if (one.reading > 0) linger(record, one);
      else if (!isOpen(record)) close(record);
    }, options.linger ?? LINGER);
    one.linger.unref();
  }

  function close(record: NodeRecord): void {
    const one = opened.get(record.node);
    if (!one) return;
    opened.delete(record.node);
    clearTimeout(one.linger);
    // A thread that still reads from the descriptor would read another file's bytes once its number is given away.
    if (one.shared && blocks) void blocks.drop(record.node).then(() => end(one.file));
    else end(one.file);
  }

  function remove(record: NodeRecord): void {
    close(record);
    if (record.backing !== 0) passThrough?.close(record.backing);
    table.remove(record);
  }

  function entry(record: NodeRecord) {
    record.lookups += 1n;
    table.save(record);
    const { node, size } = record;
    return {
      answer: (unique: bigint) =>
        entryReply(unique, node, attributesOfFile(node, size), { entry: FOREVER, attributes: FOREVER }),
      late: () => {
        record.lookups -= 1n;
        table.save(record);
        // Others that waited for the same file are answered before this runs.
        queueMicrotask(() => removeIfUnknown(record));
      },
    };
  }

  function removeIfUnknown(record: NodeRecord): void {
    if (record.lookups <= 0n && table.byNode(record.node) === record) remove(record);
  }

  function answerOpen(
    record: NodeRecord,
    file: RingFile | undefined,
    send: (make: (unique: bigint) => Buffer) => boolean,
  ): void {
    counters.opens += 1;
    const passed = passes(record, file);
    if (passed) record.passed += 1;
    else record.cached += 1;
    table.save(record);
    const one = opened.get(record.node);
    clearTimeout(one?.linger);
    if (one && !passed && !one.shared && one.file.local && blocks) {
      blocks.add(record.node, record.size, one.file.local);
      one.shared = true;
    }
    if (passed) counters.passedOpens += 1;
    const taken = send((unique) =>
      passed
        ? openReply(unique, PASSED, OPEN_FLAG.passthrough, record.backing)
        : openReply(unique, CACHED, OPEN_FLAG.keepCache),
    );
    if (!taken) released(record, passed);
  }

  /** Whether this open is passed through: as the others that there are, or, for the first one, where the file is whole. */
  function passes(record: NodeRecord, file: RingFile | undefined): boolean {
    if (record.passed > 0) return true;
    if (record.cached > 0 || !passThrough) return false;
    const path = file?.whole();
    const backing = path === undefined ? undefined : passThrough.open(path, record.size);
    if (backing === undefined) return false;
    record.backing = backing;
    return true;
  }

  function released(record: NodeRecord, passed: boolean): void {
    if (passed) record.passed = Math.max(0, record.passed - 1);
    else record.cached = Math.max(0, record.cached - 1);
    if (passed && record.passed === 0 && record.backing !== 0) {
      passThrough?.close(record.backing);
      record.backing = 0;
    }
    table.save(record);
    const one = opened.get(record.node);
    if (one && !isOpen(record)) linger(record, one);
  }

  function open(request: FuseRequest, record: NodeRecord, port: AnswerPort): void {
    const one = opened.get(record.node);
    if (one || record.passed > 0) {
      answerOpen(record, one?.file, (make) => port.send(make(request.unique)));
      return;
    }
    const begin = (key: bigint, left: number) =>
      bring(record, left, (one) => {
        if (typeof one === 'object') answerOpen(record, one.file, (make) => holds.answer(key, make) === 'taken');
        else holds.answer(key, (unique) => errorReply(unique, EIO));
      });
    holds.add(request, port, begin, () => {}, deadlineOf(record.id));
  }

  function fileOf(record: NodeRecord, outcome: RingFile | undefined | 'failed' | 'expired'): RingFile | undefined {
    if (outcome === 'failed' || outcome === 'expired') return undefined;
    if (outcome === undefined) {
      onFailure?.(record.id, new Error(`object ${record.id} is of no version that is mounted`));
      return undefined;
    }
    if (outcome.size !== record.size || table.byNode(record.node) !== record) {
      end(outcome);
      return undefined;
    }
    return adopt(record, outcome).file;
  }

  /** Asks for the file of a node, for one who waits for it, for `left` ms at most. Gives what leaves. */
  function bring(record: NodeRecord, left: number, end: (one: OpenedFile | 'failed' | 'expired') => void): () => void {
    return waits.wait(record.id, left, (outcome) => {
      const file = fileOf(record, outcome);
      if (file) end(opened.get(record.node)!);
      else end(outcome === 'expired' ? outcome : 'failed');
    });
  }

  function forget(nodes: readonly Forgotten[]): void {
    for (const { nodeid, lookups } of nodes) {
      const record = isFileNode(nodeid) ? table.byNode(nodeid) : undefined;
      if (!record) continue;
      record.lookups -= lookups;
      if (record.lookups <= 0n) remove(record);
      else table.save(record);
    }
  }

  return {
    known(id, request, port) {
      const record = table.byId(id);
      if (!record || record.lookups <= 0n) return false;
      const { answer, late } = entry(record);
      if (!port.send(answer(request.unique))) late();
      return true;
    },
    give(id, file) {
      const record = table.byId(id) ?? table.add(id, file.size);
      if (record.size !== file.size) {
        onFailure?.(id, new Error(`it has ${file.size} bytes, and had ${record.size}`));
        end(file);
        return undefined;
      }
      adopt(record, file);
      return entry(record);
    },
    handle(request, port) {
      if (request.op === 'forget') return forget(request.nodes);
      const record = table.byNode(request.nodeid);
      if (!record) {
        port.send(request.op === 'release' ? emptyReply(request.unique) : errorReply(request.unique, EIO));
        return;
      }
      switch (request.op) {
        case 'open':
          return open(request, record, port);
        case 'read':
          return reads.read(request, record, port);
        case 'getattr':
          port.send(attributesReply(request.unique, attributesOfFile(record.node, record.size), FOREVER));
          return;
        case 'release':
          // Counted after it is answered: one that is sent again to the next daemon must not count twice.
          port.send(emptyReply(request.unique));
          return released(record, request.handle === PASSED);
      }
    },
    counters: () => ({ ...counters, ...reads.counters(), fileNodes: table.size, files: opened.size }),
    release() {
      for (const one of opened.values()) {
        clearTimeout(one.linger);
        end(one.file);
      }
      opened.clear();
    },
  };
}
