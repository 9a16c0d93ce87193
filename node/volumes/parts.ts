import type { Cache } from '../../cache/cache.ts';
import type { Making } from '../../cache/capacity.ts';
import type { RuntimePaths } from '../paths.ts';
import type { Reach } from '../reach.ts';
import type { StagedRecords } from '../records.ts';
import type { Repositories } from '../repositories.ts';
import type { Rights } from '../rights.ts';
import type { Serial } from '../serial.ts';
import type { StagePrefetches } from '../stage-prefetch.ts';
import type { StagedVersions } from '../staging.ts';
import type { SaveTrouble } from './condition.ts';
import type { WorkspacePlace } from './workspace.ts';

/** What serving volumes is made of. */
export interface VolumesParts {
  readonly cache: Cache;
  readonly versions: StagedVersions;
  readonly paths: RuntimePaths;
  readonly repositories: Repositories;
  /** Takes room for workspaces. */
  readonly making: Making;
  /** Whether repositories answer; without it, nothing is known of that. */
  readonly reach?: Pick<Reach, 'last'>;
  /** Who may use which dataset; without it, everyone may. */
  readonly rights?: Rights;
  readonly prefetches?: Pick<StagePrefetches, 'begin' | 'end'>;
}

/** What its parts share. */
export interface VolumesContext extends VolumesParts {
  readonly records: StagedRecords;
  readonly rights: Rights;
  /** What becomes of workspaces' changes; without it, nothing is saved. */
  readonly saves?: { stateOf(volume: string): SaveTrouble | undefined };
  /** One thing at a time is done with a volume, whoever asks for it. */
  readonly lock: Serial;
  /** Where a workspace is kept. */
  readonly workspaceOf: (volume: string) => WorkspacePlace;
}
