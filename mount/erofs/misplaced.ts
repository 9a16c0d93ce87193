import { type ByteString, textOf } from '../../dataset/byte-string.ts';
import { CorruptError } from '../../dataset/errors.ts';

/** The directory that an entry would have to be in, or below, and the last name that was put into it. */
export interface Place {
  readonly prefix: string;
  readonly lastName: string;
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
  const last = textOf((place.prefix + place.lastName) as ByteString);
  if (slash >= 0 && name === place.lastName) return `${shown} is below '${last}', which is not a directory`;
  if (name === place.lastName) return `${shown} comes twice`;
  if (name < place.lastName) return `${shown} comes after '${last}', but sorts before it`;
  return `${shown} comes without its parent directory`;
}
