import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createFileAtomic } from '../../system/atomic.ts';

/** The UUID of this installation: in the cache's directory, which has the workspaces' images too. Made where it is not there. */
export async function instanceOf(cache: string): Promise<string> {
  const file = join(cache, 'instance');
  await createFileAtomic(file, `${randomUUID()}\n`, { mode: 0o600 });
  return readFileSync(file, 'utf8').trim();
}
