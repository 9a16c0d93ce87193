import { closeSync, constants, openSync } from 'node:fs';
import { type ByteString, bufferOf } from '../byte-string.ts';

/** The kernel takes paths of up to PATH_MAX (4,096) bytes with their zero byte; this leaves room for a name. */
const REACH = 3_500;

/** A path as `node:fs` takes it: text where it is ASCII, which costs less than a Buffer. */
export function fsPath(path: ByteString): string | Buffer {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII
  return /^[\x00-\x7f]*$/.test(path) ? path : bufferOf(path);
}

/**
 * Reaches paths longer than the kernel takes: it opens a directory on the way and goes on below /proc/self/fd. Keeps the last one
 * open, since paths come in order.
 */
export class DeepPaths {
  #directory = '';
  #fd = -1;

  /** A path of the same file that the kernel takes, good until the next call. Throws as open(2) does. */
  reach(path: ByteString): ByteString {
    if (path.length <= REACH) return path;
    const slash = path.lastIndexOf('/');
    const directory = path.slice(0, slash);
    if (directory !== this.#directory) this.#open(directory);
    return `/proc/self/fd/${this.#fd}${path.slice(slash)}` as ByteString;
  }

  #open(directory: string): void {
    this.close();
    let fd = -1;
    let rest = directory;
    try {
      while (rest !== '') {
        const cut = rest.length <= REACH ? rest.length : rest.lastIndexOf('/', REACH);
        const step = rest.slice(0, cut);
        const from = fd < 0 ? step : `/proc/self/fd/${fd}${step}`;
        const next = openSync(fsPath(from as ByteString), constants.O_RDONLY | constants.O_DIRECTORY);
        if (fd >= 0) closeSync(fd);
        fd = next;
        rest = rest.slice(cut);
      }
    } catch (error) {
      if (fd >= 0) closeSync(fd);
      throw error;
    }
    this.#fd = fd;
    this.#directory = directory;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    this.#directory = '';
  }
}
