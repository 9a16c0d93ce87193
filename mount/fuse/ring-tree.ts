import { constants } from 'node:os';
import { DIRENT_TYPE, NAME_MAX, OUT_HEADER, ROOT_ID, S_IFDIR } from './protocol.ts';
import {
  type Attributes,
  attributesReply,
  type DirectoryEntry,
  directoryReply,
  emptyReply,
  entryReply,
  errorReply,
  FOREVER,
  openReply,
  statfsReply,
} from './reply.ts';
import type { FuseRequest } from './request.ts';
import { createBlockReader } from './ring-blocks.ts';
import { isFileNode } from './ring-nodes.ts';
import type { AnswerAtOnce } from './session-reader.ts';

/**
 * The ring's directories: the root, `wait`, `fault`, and `wait/<2 hex>`. A node's number says all about it, so that a daemon that takes
 * over knows nodes that another gave out.
 *
 * No two callers are in one directory `wait/<2 hex>` at a time: its LOOKUP gives each a node of its own. For a lookup that is under
 * way, the kernel makes others of the same name in the same directory wait for it, and that wait no signal ends, not even SIGKILL.
 * In a directory of its own, each caller has a request of its own, which can be interrupted.
 *
 *     bit 62: set    48 to 55: the two hex digits    0 to 47: a running number
 */
export const NODE = { root: ROOT_ID, wait: 2n, fault: 3n } as const;

const FRESH = 1n << 62n;
const SERIAL_MASK = (1n << 48n) - 1n;

/** The two hex digits of a directory in `wait`, or undefined of any other node. */
export function hexOf(nodeid: bigint): string | undefined {
  if ((nodeid & FRESH) === 0n || nodeid >> 63n !== 0n) return undefined;
  return ((nodeid >> 48n) & 0xffn).toString(16).padStart(2, '0');
}

/** Whether `name` is an object's content id and belongs into the directory of these two digits. */
export function isObjectName(name: string, hex: string): boolean {
  return /^[0-9a-f]{64}$/.test(name) && name.startsWith(hex);
}

/** What the reading thread, which answers for the directories, and the thread that holds the waiting share. */
export interface TreeState {
  readonly buffer: SharedArrayBuffer;
  /** The next caller may be given this directory: who was in it has its answer. It spares the kernel a new inode. */
  leave(nodeid: bigint): void;
  /** A directory that nobody is in. One whose caller never rings is not given out again. */
  enter(hex: string): bigint;
  /** Directories of `wait` that the kernel knows now: given out, and not forgotten. */
  known(): number;
  count(change: { given?: bigint; forgotten?: bigint; blockReads?: bigint; blockBytes?: bigint }): void;
  /** READs that the reading threads answered by themselves, and their bytes. */
  blockReads(): { readonly reads: number; readonly bytes: number };
}

const GIVEN = 256;
const FORGOTTEN = 257;
const SERIAL = 258;
const BLOCK_READS = 259;
const BLOCK_BYTES = 260;
const CELLS = 261;

export function createTreeState(): TreeState {
  const buffer = new SharedArrayBuffer(CELLS * 8);
  // Starting at the clock, no number comes again soon that an earlier daemon of this mount gave out.
  new BigInt64Array(buffer)[SERIAL] = (BigInt(Date.now()) << 8n) & SERIAL_MASK;
  return openTreeState(buffer);
}

export function openTreeState(buffer: SharedArrayBuffer): TreeState {
  const cells = new BigInt64Array(buffer);
  return {
    buffer,
    leave(nodeid) {
      const hex = hexOf(nodeid);
      if (hex !== undefined) Atomics.store(cells, Number.parseInt(hex, 16), nodeid);
    },
    enter(hex) {
      const index = Number.parseInt(hex, 16);
      const again = Atomics.exchange(cells, index, 0n);
      if (again !== 0n) return again;
      const serial = Atomics.add(cells, SERIAL, 1n) & SERIAL_MASK;
      return FRESH | (BigInt(index) << 48n) | serial;
    },
    known: () => Number(Atomics.load(cells, GIVEN) - Atomics.load(cells, FORGOTTEN)),
    count({ given, forgotten, blockReads, blockBytes }) {
      if (given) Atomics.add(cells, GIVEN, given);
      if (forgotten) Atomics.add(cells, FORGOTTEN, forgotten);
      if (blockReads) Atomics.add(cells, BLOCK_READS, blockReads);
      if (blockBytes) Atomics.add(cells, BLOCK_BYTES, blockBytes);
    },
    blockReads: () => ({
      reads: Number(Atomics.load(cells, BLOCK_READS)),
      bytes: Number(Atomics.load(cells, BLOCK_BYTES)),
    }),
  };
}

/** All are directories that only root may enter: overlayfs goes in with the rights of who mounted. */
function attributesOf(nodeid: bigint): Attributes {
  return { ino: nodeid, mode: S_IFDIR | 0o500, size: 0, nlink: 2, uid: 0, gid: 0, time: 0 };
}

function list(nodeid: bigint): DirectoryEntry[] {
  const type = DIRENT_TYPE.directory;
  const own = [
    { ino: nodeid, name: '.', type },
    { ino: NODE.root, name: '..', type },
  ];
  if (nodeid !== NODE.root) return own;
  return [...own, { ino: NODE.wait, name: 'wait', type }, { ino: NODE.fault, name: 'fault', type }];
}

/**
 * Answers what needs no waiting and no knowledge of who waits. It runs on the thread that reads, so that a process may touch the
 * ring's directories while its main thread is busy, and even with a synchronous call from there.
 */
export const answerAtOnce: AnswerAtOnce = (buffer) => {
  const state = openTreeState(buffer);
  const blocks = createBlockReader();
  const answer = (request: FuseRequest) => {
    const { unique, nodeid } = request;
    switch (request.op) {
      case 'lookup': {
        const found = (node: bigint, entry: number) =>
          entryReply(unique, node, attributesOf(node), { entry, attributes: FOREVER });
        if (nodeid === NODE.root && request.name === 'wait') return found(NODE.wait, FOREVER);
        if (nodeid === NODE.root && request.name === 'fault') return found(NODE.fault, FOREVER);
        if (nodeid === NODE.wait && /^[0-9a-f]{2}$/.test(request.name)) {
          state.count({ given: 1n });
          return found(state.enter(request.name), 0);
        }
        const hex = hexOf(nodeid);
        const needsMore = nodeid === NODE.fault || (hex !== undefined && isObjectName(request.name, hex));
        return needsMore ? undefined : errorReply(unique, constants.errno.ENOENT);
      }
      case 'forget':
        for (const node of request.nodes)
          if (hexOf(node.nodeid) !== undefined) state.count({ forgotten: BigInt.asIntN(64, node.lookups) });
        return request.nodes.some((node) => isFileNode(node.nodeid)) ? undefined : 'nothing';
      case 'read': {
        if (!isFileNode(nodeid)) return errorReply(unique, constants.errno.EIO);
        const data = blocks.answer(unique, nodeid, request.offset, request.count);
        if (data) state.count({ blockReads: 1n, blockBytes: BigInt(data.length - OUT_HEADER.size) });
        return data;
      }
      case 'open':
      case 'release':
        return isFileNode(nodeid) ? undefined : errorReply(unique, constants.errno.EIO);
      case 'getattr':
        if (isFileNode(nodeid)) return undefined;
        return attributesReply(unique, attributesOf(nodeid), FOREVER);
      case 'opendir':
        return openReply(unique, 0n);
      case 'readdir':
        return directoryReply(unique, list(nodeid), request.offset, request.count);
      case 'statfs':
        return statfsReply(unique, NAME_MAX);
      case 'releasedir':
      case 'destroy':
        return emptyReply(unique);
      case 'malformed':
        return unique === 0n ? 'nothing' : errorReply(unique, constants.errno.EIO);
      case 'init':
      case 'interrupt':
        return undefined;
      default:
        return errorReply(unique, constants.errno.ENOSYS);
    }
  };
  return { answer, take: (message) => blocks.take(message) };
};
