import { rmSync } from 'node:fs';

/** Of an index of saves: what SQLite makes of its name. */
export function indexFiles(file: string): string[] {
  return ['', '-wal', '-shm'].map((suffix) => file + suffix);
}

/** Deletes an index that nobody has open. */
export function removeSaveIndex(file: string): void {
  for (const each of indexFiles(file)) rmSync(each, { force: true });
}
