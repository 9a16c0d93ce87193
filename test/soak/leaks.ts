import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';

/** Mount points below `directory`. */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${directory}/`));
}

/** Files below `directory` that a loop device has. */
export function loopsBelow(directory: string): string[] {
  return readdirSync('/sys/block')
    .map((name) => `/sys/block/${name}/loop/backing_file`)
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8').trim())
    .filter((file) => file.startsWith(`${directory}/`));
}

/** Processes in whose environment `directory` stands, this one left out: what a daemon of ours may have started. */
export function processesOf(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => read(`/proc/${pid}/environ`).includes(directory))
    .map((pid) => `${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`);
}

/** How many descriptors a process has open. */
export function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** What a file system has in use that no file of it accounts for, in bytes: deleted files that something holds, and its own structures. */
export function hiddenBytes(directory: string): number {
  execFileSync('sync', ['--file-system', directory]);
  const { blocks, bfree, bsize } = statfsSync(directory);
  const seen = Number(
    execFileSync('du', ['--summarize', '--block-size=1', '--one-file-system', directory], { encoding: 'utf8' }).split(
      '\t',
    )[0],
  );
  return (blocks - bfree) * bsize - seen;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    // It has just ended, or is one of the kernel's.
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ESRCH') || isErrno(error, 'EACCES')) return '';
    throw error;
  }
}
