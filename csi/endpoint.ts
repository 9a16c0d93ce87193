import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { isAbsolute } from 'node:path';
import { ConflictError, InvalidError, isErrno } from '../dataset/errors.ts';

/** What the kernel takes as a unix socket's path, in bytes (sun_path of unix(7), less its final NUL). */
const PATH_BYTES = 107;

/**
 * The socket's path of a CSI endpoint: `unix:///path`, `unix:/path` or the path itself.
 * Errors: InvalidError.
 */
export function socketPath(endpoint: string): string {
  const path = endpoint.replace(/^unix:(\/\/)?/, '');
  if (!isAbsolute(path))
    throw new InvalidError(`endpoint ${JSON.stringify(endpoint)}: give a unix socket, unix:///absolute/path`);
  if (Buffer.byteLength(path) > PATH_BYTES)
    throw new InvalidError(
      `endpoint ${endpoint}: a socket's path has at most ${PATH_BYTES} bytes, choose a shorter one`,
    );
  return path;
}

/**
 * Removes a socket that its process left behind.
 * Errors: ConflictError where a process still answers on it, or the path is something else.
 */
export async function clearSocket(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket())
      throw new ConflictError(`${path} is there and is no socket: move it away, or choose another endpoint`);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    throw error;
  }
  if (await answers(path))
    throw new ConflictError(`another process listens on ${path}: stop it first, or choose another endpoint`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      if (isErrno(error, 'ECONNREFUSED') || isErrno(error, 'ENOENT')) resolve(false);
      else reject(error);
    });
  });
}
