import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { bytesOf } from '../../dataset/byte-string.ts';
import { type Change, commitChanges } from '../../dataset/commit.ts';
import type { Entry } from '../../dataset/entry.ts';
import { ConflictError } from '../../dataset/errors.ts';
import { readBranch } from '../../dataset/refs.ts';
import { openRepository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';

/**
 * Many committers to one branch, in a process of their own: `LOCATION DATASET FIRST COUNT`. Prints `ready`; for each line `race` or
 * `retry` on stdin every committer that has not landed tries, once or until it has, and an outcome is printed for each try.
 */
const [location, dataset, first, count] = process.argv.slice(2) as [string, string, string, string];

/** So many at a time go on until they have landed: with more, nearly all of what they do is in vain. */
const RETRYING = 3;

export interface Try {
  readonly committer: number;
  /** The version that landed; undefined: a conflict, with its message. */
  readonly version?: string;
  readonly conflict?: string;
}

export function pathOf(committer: number): string {
  return `by-${String(committer).padStart(4, '0')}`;
}

async function* changesOf(committer: number): AsyncGenerator<Change[]> {
  const bytes = Buffer.from(`committer ${committer}\n`);
  const about = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: committer, mtimeNanos: 0 };
  const entry: Entry = {
    ...about,
    type: 'file',
    path: bytesOf(pathOf(committer)),
    size: bytes.length,
    content: { kind: 'inline', bytes },
  };
  yield [{ kind: 'put', entry }];
}

if (import.meta.main) {
  const repository = await openRepository(location);
  const waiting = new Set(Array.from({ length: Number(count) }, (_, at) => Number(first) + at));

  const once = async (committer: number): Promise<Try> => {
    const ref = (await readBranch(repository, dataset, 'main'))!;
    const base = await readVersion(repository, ref.version);
    try {
      const { version } = await commitChanges({
        repository,
        dataset,
        branch: 'main',
        base,
        head: { ref },
        changes: changesOf(committer),
        author: `committer ${committer}`,
        message: pathOf(committer),
      });
      waiting.delete(committer);
      return { committer, version: version.id };
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      return { committer, conflict: error.message };
    }
  };
  const tell = (outcome: Try) => process.stdout.write(`${JSON.stringify(outcome)}\n`);
  const untilLanded = async (committer: number) => {
    for (let pause = 50; ; pause = Math.min(pause * 2, 2000)) {
      const outcome = await once(committer);
      tell(outcome);
      if (outcome.version !== undefined) return;
      await sleep(Math.random() * pause);
    }
  };

  process.stdout.write('ready\n');
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'race') await Promise.all([...waiting].map(async (committer) => tell(await once(committer))));
    else {
      const queue = [...waiting];
      const next = async () => {
        for (let committer = queue.shift(); committer !== undefined; committer = queue.shift())
          await untilLanded(committer);
      };
      await Promise.all(Array.from({ length: RETRYING }, next));
    }
    process.stdout.write('done\n');
  }
  await repository.bucket.close();
}
