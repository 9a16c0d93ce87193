import type { ByteString } from '../byte-string.ts';
import { parentOf } from '../path.ts';
import type { Side } from './entries.ts';

/** What the user said about conflicts. */
export interface Choices {
  /** For all that nothing else is said about. */
  readonly prefer?: Side;
  /** By path: for it and for what lies below it. */
  readonly take?: ReadonlyMap<ByteString, Side>;
}

/** Whom the user chose for a path: what is said about the nearest path that holds it. */
export function chooser({ prefer, take }: Choices): (path: ByteString) => Side | undefined {
  if (take === undefined || take.size === 0) return () => prefer;
  return (path) => {
    for (let at: ByteString | undefined = path; at !== undefined; at = parentOf(at)) {
      const side = take.get(at);
      if (side !== undefined) return side;
    }
    return prefer;
  };
}
