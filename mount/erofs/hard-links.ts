import { type ByteString, textOf } from '../../dataset/byte-string.ts';
import type { FileEntry } from '../../dataset/entry.ts';
import { CorruptError } from '../../dataset/errors.ts';
import { BLOCK, EXTENDED, roundUp, SLOT } from './layout.ts';
import { readBlock, type Space, writeFully } from './space.ts';

interface Group {
  readonly nid: number;
  readonly first: ByteString;
  readonly agreed: string;
  links: number;
}

/** The inodes that have several names. Memory: one record for each group, since a further name may come until the end. */
export class HardLinks {
  readonly #groups = new Map<ByteString, Group>();

  /** The inode of the group of this entry, with one more link; undefined when the entry is the first of its group. */
  join(entry: FileEntry, link: ByteString): number | undefined {
    const group = this.#groups.get(link);
    if (group === undefined) return undefined;
    if (group.agreed !== agreedOf(entry)) {
      throw new CorruptError(
        `${textOf(entry.path)} and ${textOf(group.first)} are hard links of one file, but differ in more than their path`,
        { facts: { path: textOf(entry.path), other: textOf(group.first) } },
      );
    }
    group.links += 1;
    return group.nid;
  }

  found(entry: FileEntry, link: ByteString, nid: number): void {
    this.#groups.set(link, { nid, first: entry.path, agreed: agreedOf(entry), links: 1 });
  }

  /** Writes the link counts into the inodes. The groups are in the order of their inodes, so each block is changed once. */
  finish(space: Space): void {
    let block: Buffer | undefined;
    let blockAt = -1;
    for (const group of this.#groups.values()) {
      if (group.links === 1) continue;
      const at = group.nid * SLOT + EXTENDED.links;
      const wanted = roundUp(at + 1, BLOCK) - BLOCK;
      if (wanted !== blockAt) {
        if (block !== undefined) writeFully(space.fd, block, BLOCK, blockAt);
        block = readBlock(space.fd, wanted);
        blockAt = wanted;
      }
      block!.writeUInt32LE(group.links, at - blockAt);
    }
    if (block !== undefined) writeFully(space.fd, block, BLOCK, blockAt);
  }
}

function agreedOf(entry: FileEntry): string {
  const { mode, uid, gid, mtimeSeconds, mtimeNanos, size, content } = entry;
  const id = content.kind === 'inline' ? content.bytes.toString('latin1') : content.id;
  return `${mode} ${uid} ${gid} ${mtimeSeconds} ${mtimeNanos} ${size} ${content.kind} ${id}`;
}
