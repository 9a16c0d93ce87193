import { hash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { sha256 } from '../../../dataset/digest.ts';

/** The bytes of file number `index`: some 300 to 4,300, different in every file. */
export function contentOf(index: number): Buffer {
  const line = hash('sha256', `file ${index}`);
  return Buffer.from(`${index} ${line}\n`.repeat(5 + (index % 61)));
}

/** Content ids of the first `count` files, in a file that `readContentIds` reads faster than they can be made again. */
export function writeContentIds(file: string, count: number): void {
  writeFileSync(file, Array.from({ length: count }, (_, index) => sha256(contentOf(index))).join('\n'));
}

/** Content id to number. */
export function readContentIds(file: string): Map<string, number> {
  return new Map(
    readFileSync(file, 'latin1')
      .split('\n')
      .map((id, index) => [id, index]),
  );
}
