import { rm } from 'node:fs/promises';

/** Of an index of saves: what SQLite makes of its name. */
export function indexFiles(file: string): string[] {
  return ['', '-wal', '-shm'].map((suffix) => file + suffix);
}

/** Deletes an index that nobody has open. */
export async function removeSaveIndex(file: string): Promise<void> {
  for (const each of indexFiles(file)) await rm(each, { force: true });
}
