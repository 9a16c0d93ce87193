import type { Digest } from '../../dataset/digest.ts';
import type { SourceContent } from '../../dataset/entry.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { FileJob } from '../crew-protocol.ts';
import type { Place } from '../segment-reader.ts';
import { chunkMemory, READ_MEMORY } from './memory.ts';

/** What puts one object together from its chunks. */
export function fileJob(
  id: Digest,
  content: Exclude<Place['content'], SourceContent>,
  locations: Place['locations'],
): FileJob {
  const located = (chunk: Digest, length?: number) => {
    const location = locations.get(chunk);
    if (!location) {
      throw new CorruptError(`the locations of object ${id} tell nothing of its chunk ${chunk}: run 'larder verify'`, {
        facts: { object: id, chunk },
      });
    }
    return { chunk, length: length ?? location.length, location };
  };
  if (content.kind === 'chunk') return { kind: 'file', id, parts: [located(content.id)] };
  return {
    kind: 'file',
    id,
    parts: content.parts.map(({ chunk, length }) => (chunk === undefined ? { length } : located(chunk, length))),
  };
}

/** Chunks of a file that are read at a time, the one that is written among them: see `assembleFile`. */
const CHUNKS_AT_ONCE = 4;

/** What putting it together holds at most, in bytes. */
export function fileMemory({ parts }: FileJob): number {
  let largest = 0;
  for (const { location } of parts) if (location) largest = Math.max(largest, chunkMemory(location));
  return Math.min(parts.length, CHUNKS_AT_ONCE) * (READ_MEMORY + largest);
}
