import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../dataset/errors.ts';
import { attachLoop } from '../../mount/loop.ts';
import { cleanLeftovers } from '../../mount/unmount.ts';
import { mount } from '../../system/calls.ts';

/** A file system of its own in a loop file: what is taken and freed on it is nobody else's doing. */
export interface SmallDisk extends AsyncDisposable {
  readonly directory: string;
  /** Bytes that an unprivileged writer may still take. */
  free(): number;
  /** Takes all that is free, as somebody else would. @returns what gives it back */
  fill(): () => void;
  /** Until so many bytes are free, or two seconds have gone: some file systems free behind the caller's back. @returns what is free then */
  untilFree(bytes: number): Promise<number>;
}

/** @param bytes its size; XFS needs 300 MiB */
export async function smallDisk({
  type = 'ext4',
  bytes,
}: {
  type?: 'ext4' | 'xfs';
  bytes: number;
}): Promise<SmallDisk> {
  const folder = mkdtempSync(join(tmpdir(), 'larder-disk-'));
  const file = join(folder, 'disk');
  const directory = join(folder, 'at');
  mkdirSync(directory);
  writeFileSync(file, '');
  truncateSync(file, bytes);
  // No blocks kept for root, no journal larger than the rest: what it has is there to be used.
  const options = type === 'ext4' ? ['-q', '-F', '-m', '0', '-J', 'size=4'] : ['-q', '-f'];
  execFileSync(`mkfs.${type}`, [...options, file]);
  {
    using loop = await attachLoop({ file, readOnly: false });
    mount({ source: loop.path, target: directory, type });
  }
  const free = () => {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  };
  return {
    directory,
    free,
    fill: () => {
      const filler = join(directory, 'filler');
      takeAll(filler);
      return () => rmSync(filler);
    },
    untilFree: async (wanted) => {
      for (let tries = 0; tries < 100 && free() < wanted; tries += 1) await sleep(20);
      return free();
    },
    [Symbol.asyncDispose]: async () => {
      await cleanLeftovers(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function takeAll(path: string): void {
  const descriptor = openSync(path, 'wx');
  try {
    for (let size = 65_536; size >= 512; size /= 2) {
      try {
        for (;;) writeSync(descriptor, Buffer.alloc(size, 1));
      } catch (error) {
        if (!isErrno(error, 'ENOSPC')) throw error;
      }
    }
  } finally {
    closeSync(descriptor);
  }
}
