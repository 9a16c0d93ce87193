import type { Volume } from '../controller/volume.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import type { StagedVolume, StageRequest, View } from '../node/service-types.ts';

/**
 * How a node is to stage a volume.
 * @param known what is staged of it: asked for again, it stays the version that it is
 */
export function stageRequestOf(
  volume: Volume,
  options: { readonly stagingPath: string; readonly mountGroup?: number; readonly known?: StagedVolume },
): StageRequest {
  const { id, dataset, version, kind, capacityBytes, settings } = volume;
  const { stagingPath, mountGroup, known } = options;
  const { autosave } = settings;
  return {
    volume: id,
    dataset,
    version: known?.version ?? version,
    kind,
    ...(kind === 'workspace' && { capacityBytes }),
    ...(kind === 'workspace' && autosave !== undefined && { autosave }),
    ...servingOf(settings, mountGroup),
    stagingPath,
  };
}

/** What of a volume's settings is about reading it. */
export function servingOf(
  settings: VolumeSettings,
  mountGroup?: number,
): Pick<StageRequest, 'prefetch' | 'view' | 'deadline' | 'bandwidth'> {
  const { prefetch, deadline, bandwidth } = settings;
  const view = viewOf(settings, mountGroup);
  return {
    ...(prefetch !== undefined && { prefetch }),
    ...(view !== undefined && { view }),
    ...(deadline !== undefined && { deadline }),
    ...(bandwidth !== undefined && { bandwidth }),
  };
}

function viewOf({ uid, gid, mode }: VolumeSettings, mountGroup: number | undefined): View | undefined {
  const view = {
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(mode !== undefined && { mode }),
    ...(mountGroup !== undefined && { mountGroup }),
  };
  return Object.keys(view).length === 0 ? undefined : view;
}
