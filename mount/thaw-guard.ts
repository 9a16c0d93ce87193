import { closeSync, openSync } from 'node:fs';
import { isErrno } from '../dataset/errors.ts';
import { thaw } from '../system/calls.ts';

/**
 * The program that whoever freezes starts: `thaw-guard.ts <milliseconds> <mount point>…`. It says `ready`, and waits for a line
 * (all went well: end), the end of its input (the other process died: thaw all) or the time (thaw all).
 */
const [milliseconds, ...points] = process.argv.slice(2);
// Opened before the freeze: nothing of a frozen filesystem is looked up later.
const filesystems = points.map((at) => openSync(at, 'r'));

function thawAndEnd(): void {
  for (const filesystem of filesystems) {
    try {
      thaw(filesystem);
    } catch (error) {
      // EINVAL: it is not frozen.
      if (!isErrno(error, 'EINVAL')) throw error;
    } finally {
      closeSync(filesystem);
    }
  }
  process.exit(0);
}

setTimeout(thawAndEnd, Number(milliseconds));
process.stdin.once('data', () => process.exit(0));
process.stdin.once('end', thawAndEnd);
process.stdout.write('ready\n');
