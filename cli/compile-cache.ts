import { lstatSync, mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

/**
 * Lets Node keep what it compiled of the program in the user's own cache folder: a command then starts in a third of the time.
 * What is in that folder is run, so it must be this user's and nobody else's to write; where it is not, or cannot be made,
 * the program starts without it.
 */
export function keepCompiledCode(home: string, uid: number): void {
  const directory = join(home, '.cache', 'larder-code');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { uid: owner, mode } = lstatSync(directory);
    if (owner !== uid || (mode & 0o022) !== 0) return;
  } catch {
    // A home that is read-only or not there: nothing depends on this folder.
    return;
  }
  enableCompileCache(directory);
}
