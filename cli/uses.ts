import { pinsOfDataset } from '../dataset/pins.ts';
import type { Repository } from '../dataset/repository.ts';
import { formatNumberOf } from './format.ts';

/** What keeps versions of a dataset alive besides its names. */
export interface Uses {
  /** As fields of a document. */
  readonly counts: { readonly volumes: number; readonly snapshots: number };
  /** To be put behind other words: `; 2 volumes use its versions, which stay`; empty where there are none. */
  readonly text: string;
}

export async function usesOf(repository: Repository, dataset: string): Promise<Uses> {
  const pins = await pinsOfDataset(repository, dataset);
  const volumes = pins.filter(({ kind }) => kind === 'volume').length;
  const snapshots = pins.length - volumes;
  const parts = [
    ...(volumes > 0 ? [formatNumberOf(volumes, 'volume')] : []),
    ...(snapshots > 0 ? [formatNumberOf(snapshots, 'snapshot')] : []),
  ];
  const verb = pins.length === 1 ? 'uses' : 'use';
  const text = parts.length === 0 ? '' : `; ${parts.join(' and ')} ${verb} versions of it, which stay`;
  return { counts: { volumes, snapshots }, text };
}
