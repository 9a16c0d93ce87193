import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readVolume } from '../../controller/volumes.ts';
import { bytesOf } from '../../dataset/byte-string.ts';
import { findEntry } from '../../dataset/manifest.ts';
import { openRepository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';
import { directoryBytes } from '../cache/context.ts';
import type { Plugin, Volume } from './plugin.ts';

export interface Durable {
  /** From the call on until the volume's record has what was written before it. */
  readonly seconds: number;
  /** What the daemon and the processes that it started used meanwhile, in seconds of processor time. */
  readonly processor: number;
  /** By how much the repository's packs grew. */
  readonly bytesUploaded: number;
}

const PATIENCE_SECONDS = 3600;

/** What the packs of a repository take now, in bytes. */
export function packedBytes(plugin: Plugin): number {
  return directoryBytes(join(plugin.repository, 'packs'));
}

/**
 * Waits until all that was written to a published workspace before is in the version that its record names: a mark is written last, and looked for.
 * @param since what the packs took before what was written
 */
export async function untilDurable(plugin: Plugin, volume: Volume, since = packedBytes(plugin)): Promise<Durable> {
  const mark = `mark-${crypto.randomUUID()}`;
  writeFileSync(join(volume.targetPath, mark), mark);
  const started = performance.now();
  const before = plugin.processorSeconds();
  const repository = await openRepository(plugin.repository);
  try {
    for (let seen = ''; ; ) {
      const { version } = await readVolume(repository, volume.id);
      const seconds = (performance.now() - started) / 1000;
      if (version !== seen) {
        seen = version;
        const { root } = await readVersion(repository, version);
        if (await findEntry(repository, root, bytesOf(mark))) {
          const processor = plugin.processorSeconds() - before;
          return { seconds, processor, bytesUploaded: packedBytes(plugin) - since };
        }
      }
      if (seconds > PATIENCE_SECONDS) throw new Error(`${volume.id} was not saved in ${PATIENCE_SECONDS} s`);
      await sleep(50);
    }
  } finally {
    await repository.bucket.close();
  }
}
