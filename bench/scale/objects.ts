import { createHash } from 'node:crypto';
import type { ListedObject } from '../../dataset/bucket/bucket.ts';

/** Objects in one folder. */
const FOLDER = 1000;

/** The bucket that the generated objects would be in, and where its endpoint would be. Nothing is ever read from it. */
export const SOURCE_BUCKET = 'generated';

/** `count` objects in byte order of their keys, as a store would list them: images of some hundred kilobytes, a thousand to a folder. */
export async function* generatedObjects(count: number): AsyncGenerator<ListedObject> {
  for (let index = 0; index < count; index += 1) yield generatedObject(index);
}

/** The object at a place of the listing. @param revision another for each change of it */
export function generatedObject(index: number, revision = 0): ListedObject {
  return {
    key: `train/n${pad(Math.floor(index / FOLDER), 5)}/image_${pad(index, 8)}.jpg`,
    size: 60_000 + ((index * 7919 + revision) % 180_000),
    etag: `"${createHash('md5').update(`${index} ${revision}`).digest('hex')}"`,
    modified: new Date(1_700_000_000_000 + revision * 1000 + (index % 86_400) * 1000),
  };
}

/** `count` different places of a listing of `entries`, spread evenly but not regularly, in order. Two seeds share none. */
export function spreadPlaces(entries: number, count: number, seed: number): number[] {
  const stride = Math.floor(entries / count);
  // Each stretch is cut in halves by the seed's parity, so that the places of one seed are never those of its neighbour.
  const half = Math.floor(stride / 2);
  return Array.from(
    { length: count },
    (_, i) => i * stride + (seed % 2) * half + ((Math.imul(i + 1, 2654435761) >>> 0) % Math.max(1, half)),
  );
}

function pad(value: number, width: number): string {
  return String(value).padStart(width, '0');
}
