import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A fresh file system of its own, so that no earlier run's fragments or deleted inodes count. */
export interface FreshFilesystem extends Disposable {
  readonly directory: string;
}

/**
 * Makes an XFS in a sparse file below `parent` and mounts it through a loop device with direct I/O, so that its blocks are not
 * cached twice. Needs root and mkfs.xfs.
 */
export function freshXfs(parent: string, name: string, gibibytes: number): FreshFilesystem {
  const image = join(parent, `${name}.img`);
  const directory = join(parent, name);
  closeSync(openSync(image, 'w'));
  truncateSync(image, gibibytes * 2 ** 30);
  execFileSync('mkfs.xfs', ['-q', '-f', image]);
  mkdirSync(directory);
  const loop = execFileSync('losetup', ['--find', '--show', '--direct-io=on', image], { encoding: 'utf8' }).trim();
  try {
    execFileSync('mount', ['-t', 'xfs', loop, directory]);
  } finally {
    // The mount holds the device; it goes with the mount.
    execFileSync('losetup', ['--detach', loop]);
  }
  return {
    directory,
    [Symbol.dispose]() {
      execFileSync('umount', ['--lazy', directory]);
      rmdirSync(directory);
      rmSync(image, { force: true });
    },
  };
}

/** As `freshXfs` where this user may mount, else a directory below `parent`. */
export function benchFilesystem(parent: string, name: string, gibibytes: number): FreshFilesystem {
  if (process.getuid?.() === 0) return freshXfs(parent, name, gibibytes);
  const directory = join(parent, name);
  mkdirSync(directory);
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}

/** Empties the page, dentry and inode caches. */
export function dropCaches(): void {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}
