import { readSync } from 'node:fs';
import { OUT_HEADER } from './protocol.ts';
import { writeDataHeader } from './reply.ts';
import type { LocalBlocks } from './ring-file.ts';
import type { SharedBlocks } from './ring-files.ts';
import type { FuseSession } from './session.ts';

/** What the main thread tells the reading threads of a file's blocks. */
type BlocksMessage =
  | { readonly blocks: 'add'; readonly node: bigint; readonly size: number; readonly local: LocalBlocks }
  | { readonly blocks: 'drop'; readonly node: bigint };

/** The main thread's side. */
export function shareBlocks(session: Pick<FuseSession, 'tell'>): SharedBlocks {
  return {
    add(node, size, { fd, block, present }) {
      const message: BlocksMessage = { blocks: 'add', node, size, local: { fd, block, present } };
      void session.tell(message);
    },
    async drop(node) {
      const message: BlocksMessage = { blocks: 'drop', node };
      await session.tell(message);
    },
  };
}

export interface BlockReader {
  take(message: unknown): void;
  /** The answer to a READ all of whose bytes are there: valid until the next one. */
  answer(unique: bigint, nodeid: bigint, offset: bigint, count: number): Buffer | undefined;
}

/** A reading thread's side: answers from the file, without asking anybody. */
export function createBlockReader(): BlockReader {
  const files = new Map<bigint, { size: number; fd: number; block: number; present: Uint8Array }>();
  let room = Buffer.alloc(0);
  return {
    take(given) {
      const message = given as BlocksMessage;
      if (message.blocks === 'add') {
        const { fd, block, present } = message.local;
        files.set(message.node, { size: message.size, fd, block, present: new Uint8Array(present) });
      } else if (message.blocks === 'drop') files.delete(message.node);
    },
    answer(unique, nodeid, offset, count) {
      const file = files.get(nodeid);
      if (!file || offset >= BigInt(file.size)) return undefined;
      const from = Number(offset);
      const to = Math.min(from + count, file.size);
      for (let block = Math.floor(from / file.block); block * file.block < to; block += 1)
        if ((Atomics.load(file.present, block >> 3) & (1 << (block & 7))) === 0) return undefined;
      const length = to - from;
      if (room.length < OUT_HEADER.size + length) room = Buffer.allocUnsafeSlow(OUT_HEADER.size + length);
      let got = 0;
      while (got < length) {
        const more = readSync(file.fd, room, OUT_HEADER.size + got, length - got, from + got);
        // Shorter than it must be: the main thread shall say why.
        if (more === 0) return undefined;
        got += more;
      }
      writeDataHeader(room, unique, length);
      return room.subarray(0, OUT_HEADER.size + length);
    },
  };
}
