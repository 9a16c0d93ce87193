import { createCipheriv } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A source of bytes that do not compress, the same in every run. */
export function randomBytes(seed: number): (length: number) => Buffer {
  const key = Buffer.alloc(32);
  key.writeUInt32LE(seed);
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}

/** `count` files of `size` bytes in directories of a thousand: what a set of loose JPEGs looks like. */
export function writeImages(directory: string, count: number, size: number, seed = 1): void {
  const next = randomBytes(seed);
  for (let index = 0; index < count; index += 1) {
    const folder = join(directory, `n${String(Math.floor(index / 1000)).padStart(5, '0')}`);
    if (index % 1000 === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `image_${String(index).padStart(7, '0')}.jpg`), next(size));
  }
}

/** A tree of mixed files: labels that compress, images and a few shards that do not. */
export function writeMixed(directory: string, bytes: number, seed = 2): void {
  const next = randomBytes(seed);
  mkdirSync(join(directory, 'shards'), { recursive: true });
  for (let index = 0; index < 6; index += 1) {
    writeFileSync(join(directory, 'shards', `shard-${index}.tar`), next(Math.floor(bytes / 30)));
  }
  mkdirSync(join(directory, 'labels'), { recursive: true });
  const labels = Math.floor(bytes / 500_000);
  for (let index = 0; index < labels; index += 1) {
    const boxes = Array.from({ length: 40 }, (_, box) => ({
      label: `class-${(index * 7 + box) % 80}`,
      box: [box, index % 640, box * 2, 480],
    }));
    writeFileSync(
      join(directory, 'labels', `${String(index).padStart(7, '0')}.json`),
      JSON.stringify({ image: index, boxes }, null, 1),
    );
  }
  mkdirSync(join(directory, 'images'));
  for (let written = 0, index = 0; written < bytes * 0.8; index += 1) {
    const size = 20_000 + ((index * 7919) % 180_000);
    const folder = join(directory, 'images', String(Math.floor(index / 500)));
    if (index % 500 === 0) mkdirSync(folder);
    writeFileSync(join(folder, `${index}.jpg`), next(size));
    written += size;
  }
}

/** `count` files of some 300 bytes in directories of a thousand: many names, few bytes. */
export function writeSmall(directory: string, count: number): void {
  for (let index = 0; index < count; index += 1) {
    const folder = join(directory, `d${String(Math.floor(index / 1000)).padStart(5, '0')}`);
    if (index % 1000 === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `sample_${String(index).padStart(8, '0')}.txt`), `${index} `.repeat(300 / 8));
  }
}

/** Every file below `directory`, in an order that looks random and is the same in every run. @param order another for each number */
export function shuffledFiles(directory: string, order = 0): string[] {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  let state = 2463534242 + order * 104729;
  for (let index = files.length - 1; index > 0; index -= 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const other = (state >>> 0) % (index + 1);
    [files[index], files[other]] = [files[other] as string, files[index] as string];
  }
  return files;
}
