import { type ByteString, textOf } from '../../dataset/byte-string.ts';
import { CorruptError } from '../../dataset/errors.ts';

/** The directory that an entry would have to be in, or below: what paths in it begin with, and the last one. */
export interface Place {
  readonly prefix: string;
  readonly lastPath: string;
}

/** Says what is wrong with an entry that does not follow the one before it. `place` is undefined at the beginning. */
export function misplaced(path: ByteString, place: Place | undefined): CorruptError {
  return new CorruptError(`the entries are not those of a tree: ${faultOf(path, place)}`, {
    facts: { path: textOf(path) },
  });
}

function faultOf(path: ByteString, place: Place | undefined): string {
  if (place === undefined) return `the first one must be the root directory (''), not '${textOf(path)}'`;
  if (path === '') return "the root directory ('') comes twice";
  const shown = `'${textOf(path)}'`;
  const rest = path.slice(place.prefix.length);
  const slash = rest.indexOf('/');
  const name = slash < 0 ? rest : rest.slice(0, slash);
  if (name === '' || rest.endsWith('/')) return `${shown} has an empty component`;
  if (name === '.' || name === '..') return `${shown} has the component '${name}'`;
  const last = textOf(place.lastPath as ByteString);
  const lastName = place.lastPath.slice(place.prefix.length);
  if (slash >= 0 && name === lastName) return `${shown} is below '${last}', which is not a directory`;
  if (name === lastName) return `${shown} comes twice`;
  if (name < lastName) return `${shown} comes after '${last}', but sorts before it`;
  return `${shown} comes without its parent directory`;
}
