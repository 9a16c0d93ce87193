// The program. Plain JavaScript, because Node must be told where it keeps compiled code before it loads the first file of TypeScript:
// what strips the types takes a tenth of a second to load, and is not needed for files that are kept.
import { lstatSync, mkdirSync } from 'node:fs';
import { enableCompileCache, getCompileCacheDir } from 'node:module';
import { userInfo } from 'node:os';
import { join } from 'node:path';

// Node has done it already where NODE_COMPILE_CACHE is set.
if (getCompileCacheDir() === undefined) keepCompiledCode();
await import('../cli/main.ts');

/**
 * Keeps compiled code in the user's own cache folder. What is in that folder is run, so it must be this user's and nobody else's to
 * write; where it is not, or cannot be made, the program starts without it.
 */
function keepCompiledCode() {
  const { homedir, uid } = userInfo();
  const directory = join(homedir, '.cache', 'larder-code');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const found = lstatSync(directory);
    if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0) return;
  } catch {
    // A home that is read-only or not there: nothing depends on this folder.
    return;
  }
  enableCompileCache(directory);
}
