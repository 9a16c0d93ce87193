import { join } from 'node:path';
import type { Layout } from '../cache/layout.ts';
import type { StageMap } from '../cache/stage-map.ts';
import type { Digest } from '../dataset/digest.ts';
import { readStageMap } from './image-build.ts';

/**
 * The stage maps that are open. Each is closed when nothing refers to it any more; those that are left are at the end, when nobody
 * asks them.
 */
export interface StageMaps extends Disposable {
  add(map: StageMap): StageMap;
  /** The map of a manifest of which this node has made one, without its repository. */
  of(root: Digest): StageMap | undefined;
}

export function createStageMaps({ images }: Pick<Layout, 'images'>): StageMaps {
  const open = new Set<WeakRef<StageMap>>();
  const maps: StageMaps = {
    add(map) {
      for (const reference of open) if (reference.deref() === undefined) open.delete(reference);
      open.add(new WeakRef(map));
      return map;
    },
    of(root) {
      const map = readStageMap(join(images, `${root}.map`), root);
      return map && maps.add(map);
    },
    [Symbol.dispose]() {
      for (const reference of open) reference.deref()?.close();
    },
  };
  return maps;
}
