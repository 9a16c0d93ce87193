import { type ByteString, textOf } from './byte-string.ts';
import { InvalidError } from './errors.ts';

/** The longest component of a path, in bytes: what Linux file systems take. */
export const COMPONENT_LIMIT = 255;

/** The root directory's path. */
export const ROOT_PATH = '' as ByteString;

const SLASH = 0x2f;

/**
 * Path order: component by component, each in byte order; which is byte order with `/` below every other byte. A directory is
 * followed at once by everything below it.
 */
export function comparePaths(a: ByteString, b: ByteString): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) {
      if (x === SLASH) return -1;
      if (y === SLASH) return 1;
      return x - y;
    }
  }
  return a.length - b.length;
}

/** Whether `path` is `directory` itself or lies below it. Everything lies below the root. */
export function isWithin(path: ByteString, directory: ByteString): boolean {
  const { length } = directory;
  if (length === 0) return true;
  if (!path.startsWith(directory)) return false;
  return path.length === length || path.charCodeAt(length) === SLASH;
}

/** The path of the directory that holds `path`; undefined for the root, which nothing holds. */
export function parentOf(path: ByteString): ByteString | undefined {
  if (path === '') return undefined;
  const slash = path.lastIndexOf('/');
  return (slash < 0 ? '' : path.slice(0, slash)) as ByteString;
}

/** The last component; the empty string for the root. */
export function nameOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1) as ByteString;
}

/** `name` in `directory`. */
export function joinPath(directory: ByteString, name: ByteString): ByteString {
  return (directory === '' ? name : `${directory}/${name}`) as ByteString;
}

/** What is wrong with `path` as an entry's path, in words that follow "the path"; undefined if nothing is. */
export function pathFault(path: string): string | undefined {
  let start = 0;
  const { length } = path;
  if (length === 0) return undefined;
  for (let i = 0; i <= length; i++) {
    const code = i === length ? SLASH : path.charCodeAt(i);
    if (code === SLASH) {
      const size = i - start;
      if (size === 0)
        return start === 0 ? "begins with '/'" : i === length ? "ends with '/'" : 'has an empty component';
      if (size > COMPONENT_LIMIT) return `has a component of ${size} bytes, more than ${COMPONENT_LIMIT}`;
      if (path.charCodeAt(start) === 0x2e) {
        if (size === 1) return "has the component '.'";
        if (size === 2 && path.charCodeAt(start + 1) === 0x2e) return "has the component '..'";
      }
      start = i + 1;
    } else if (code === 0) return 'has a NUL byte';
    else if (code > 0xff) return 'is not a byte string';
  }
  return undefined;
}

/** Gives `path` back, or an InvalidError that tells what is wrong with it. */
export function validatePath(path: ByteString): ByteString {
  const fault = pathFault(path);
  if (fault !== undefined)
    throw new InvalidError(`the path '${textOf(path)}' ${fault}`, { facts: { path: textOf(path) } });
  return path;
}
