import type { Cache } from '../../cache/cache.ts';
import type { Making } from '../../cache/capacity.ts';
import type { XfsTemplates } from '../../mount/xfs-template.ts';
import type { Logger } from '../log.ts';
import type { RuntimePaths } from '../paths.ts';
import type { Reach } from '../reach.ts';
import type { StagedRecords } from '../records.ts';
import type { Repositories } from '../repositories.ts';
import type { Rights } from '../rights.ts';
import type { NodeFacts, Registry } from '../saves/leases.ts';
import type { SavesKeeper } from '../saves/saves.ts';
import type { Serial } from '../serial.ts';
import type { StagePrefetches } from '../stage-prefetch.ts';
import type { StagedVersions } from '../staging.ts';
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
  /** How volumes with records are taken and saved; without it, they are served as others are. */
  readonly registry?: Registry;
  /** How often a workspace with a record is saved that says nothing itself, in milliseconds; 0: when it is unstaged. */
  readonly autosave?: number;
  /** What the node tells of itself with each sign of life. */
  readonly facts?: () => Promise<NodeFacts>;
  readonly log?: Logger;
}

/** What its parts share. */
export interface VolumesContext extends VolumesParts {
  readonly records: StagedRecords;
  readonly rights: Rights;
  /** What becomes of workspaces' changes. */
  readonly saves: SavesKeeper;
  /** One thing at a time is done with a volume, whoever asks for it. */
  readonly lock: Serial;
  /** Where a workspace is kept. */
  readonly workspaceOf: (volume: string) => WorkspacePlace;
  readonly templates: XfsTemplates;
}
