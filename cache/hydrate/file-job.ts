import type { Digest } from '../../dataset/digest.ts';
import type { SourceContent } from '../../dataset/entry.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { FileJob } from '../crew-protocol.ts';
import type { Place } from '../segment-reader.ts';

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
