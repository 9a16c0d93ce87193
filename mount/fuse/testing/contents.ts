import { hash } from 'node:crypto';
import { sha256 } from '../../../dataset/digest.ts';

/** The bytes of file number `index`: some 300 to 4,300, different in every file. */
export function contentOf(index: number): Buffer {
  const line = hash('sha256', `file ${index}`);
  return Buffer.from(`${index} ${line}\n`.repeat(5 + (index % 61)));
}

/** Digest to index of the first `count` files. */
export function contentIndex(count: number): Map<string, number> {
  return new Map(Array.from({ length: count }, (_, index) => [sha256(contentOf(index)), index]));
}
