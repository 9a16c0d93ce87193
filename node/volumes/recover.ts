import { readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../dataset/digest.ts';
import { isErrno } from '../../dataset/errors.ts';
import { thawLeftover } from '../../mount/snapshot.ts';
import { cleanLeftovers } from '../../mount/unmount.ts';
import { imageName } from '../image-build.ts';
import { aboutVolume, type Logger } from '../log.ts';
import type { StagedRecord } from '../records.ts';
import type { Recovery } from '../recovery.ts';
import { sweepEphemeral } from './ephemeral.ts';
import { isOurs } from './names.ts';
import type { VolumesContext } from './parts.ts';
import { tearDown } from './stage.ts';

export interface RecoverParts {
  readonly log: Logger;
  /** Takes up what needs a repository, beside the daemon's other work. */
  readonly recovery: Recovery;
  /** A volume of this version can be asked for again. */
  readonly onTakenUp?: (version: Digest) => void;
}

/** Takes up what an earlier daemon staged, and clears away what it had half done. */
export async function recoverVolumes(context: VolumesContext, parts: RecoverParts): Promise<void> {
  const { records, paths, workspaceOf } = context;
  const { log } = parts;
  for (const record of records.all()) {
    try {
      if (record.state !== 'staged' || !isOurs(record)) {
        await tearDown(context, record, 'later');
        continue;
      }
      takeUpLater(context, parts, record);
      context.saves.begin(record);
      if (record.kind === 'workspace' && thawLeftover(workspaceOf(record.volume).at)) {
        const text = `workspace ${record.volume} had been left frozen by a snapshot that was cut short: it goes on`;
        log.warn(text, aboutVolume(record));
      }
    } catch (error) {
      const text = `volume ${record.volume} could not be taken up again: ${(error as Error).message}`;
      log.error(text, { ...aboutVolume(record), error });
    }
  }
  await sweepEphemeral(context);
  // Clones of snapshots that were cut short, and images whose last volume went.
  const kept = records
    .all()
    .flatMap(({ volume, root, view }) => [workspaceOf(volume).at, join(paths.images, imageName(root, view))]);
  for (const directory of [paths.workspaces, paths.images]) {
    await cleanLeftovers(directory, (point) => kept.includes(point));
    removeFolders(directory, kept);
  }
}

/** Mount points on which nothing is mounted any more, or nothing was yet. */
function removeFolders(directory: string, kept: readonly string[]): void {
  for (const name of readdirIfThere(directory)) {
    const path = join(directory, name);
    if (kept.includes(path)) continue;
    try {
      rmdirSync(path);
    } catch (error) {
      // What is not an empty folder is not ours.
      if (!['ENOTEMPTY', 'ENOTDIR', 'EBUSY'].some((code) => isErrno(error, code))) throw error;
    }
  }
}

function readdirIfThere(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

function takeUpLater(
  { versions, repositories, prefetches }: VolumesContext,
  { recovery, onTakenUp }: RecoverParts,
  { volume, ...rest }: StagedRecord,
): void {
  versions.expect(volume, rest.version);
  recovery.begin({
    name: volume,
    about: aboutVolume({ volume, ...rest }),
    takeUp: async (signal) => {
      const repository = await repositories.at(rest.repository);
      return await versions.takeUp(volume, { ...rest, repository }, signal);
    },
    onTakenUp: () => {
      prefetches?.begin({ volume, ...rest });
      onTakenUp?.(rest.version);
    },
  });
}
