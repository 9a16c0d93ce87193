import type { Answer, Ask } from '../../dataset/asks.ts';
import { DiskFullError, isDiskFull, NotFoundError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import { FencedError } from '../../dataset/volume-terms.ts';
import { serveAsks } from '../asks.ts';
import type { Logger } from '../log.ts';
import type { SavesKeeper } from '../saves/saves.ts';
import type { Volumes } from '../service.ts';
import { type KeptClone, openKeptClones } from './clones.ts';
import { type CutParts, cutGroup, cutOne } from './cut.ts';
import { createUploads } from './uploads.ts';

/** What a node does for snapshots of the workspaces that it has. */
export interface NodeSnapshots extends AsyncDisposable {
  /**
   * Does what is asked for volumes of a repository.
   * Errors: UnavailableError; what a save ends with.
   */
  handle(repository: Repository, ask: Ask, signal?: AbortSignal): Promise<Answer>;
  /** Answers what is asked through the repository, from now on until it is disposed of. */
  serve(repository: Repository): AsyncDisposable;
  /** Clones whose content is not in their repository yet. */
  pending(): readonly KeptClone[];
}

export interface SnapshotParts {
  /** What the cluster calls this node. */
  readonly node: string;
  readonly volumes: Pick<Volumes, 'lock' | 'records' | 'workspaceOf'>;
  readonly saves: Pick<SavesKeeper, 'saveNow' | 'commitClone' | 'membership'>;
  /** The folder of workspaces' images. */
  readonly images: string;
  readonly log: Logger;
}

/** Takes up at once what an earlier daemon had cloned. */
export function createNodeSnapshots(parts: SnapshotParts): NodeSnapshots {
  const { node, volumes, saves, images, log } = parts;
  const clones = openKeptClones(images);
  const uploads = createUploads({
    clones,
    saves,
    ledgerOf: async (location) => (await saves.membership(location)).ledger.snapshots,
    volumes,
    log,
  });
  for (const clone of clones.all()) uploads.begin(clone);
  const cutParts: CutParts = { volumes, clones, onKept: (clone) => uploads.begin(clone) };

  const save = async (volume: string, signal?: AbortSignal): Promise<Answer> => {
    try {
      await saves.saveNow(volume, { ...(signal && { signal }) });
      return { kind: 'saved' };
    } catch (error) {
      if (error instanceof NotFoundError || error instanceof FencedError) return { kind: 'elsewhere', volume };
      throw error;
    }
  };

  const handle: NodeSnapshots['handle'] = async ({ bucket }, ask, signal) => {
    try {
      if (ask.kind === 'save-now') return await save(ask.volume, signal);
      if (ask.kind === 'cut') return await cutOne(cutParts, ask, signal);
      const { attempt, nodes } = ask;
      const barrier = nodes.length < 2 ? undefined : { bucket, attempt, nodes, node };
      return await cutGroup(cutParts, ask, barrier, signal);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      throw new DiskFullError(`node ${node} has no room for a clone of the workspace: free some of its cache's disk`, {
        cause: error,
        facts: { node },
      });
    }
  };

  return {
    handle,
    serve: (repository) =>
      serveAsks({ bucket: repository.bucket, node, log, handle: (ask, signal) => handle(repository, ask, signal) }),
    pending: uploads.pending,
    [Symbol.asyncDispose]: () => uploads[Symbol.asyncDispose](),
  };
}
