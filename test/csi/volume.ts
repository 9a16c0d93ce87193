import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Caller } from './caller.ts';

/** The requests of one volume's life on one node, with the paths that a kubelet would choose for it. */
export interface VolumeCalls {
  readonly volumeId: string;
  readonly stagingPath: string;
  /** @param pod one of several that use the volume */
  targetOf(pod: string): string;
  stage(): Promise<void>;
  /** Without trying again. */
  stageOnce(): Promise<void>;
  publish(pod: string, more?: object): Promise<void>;
  unpublish(pod: string): Promise<void>;
  unstage(): Promise<void>;
  /** Without trying again. */
  unstageOnce(): Promise<void>;
}

/** @param directory the node's: a kubelet's is made below it */
export function volumeCalls(
  client: Pick<Caller, 'call' | 'tryOnce'>,
  directory: string,
  volumeId: string,
  volumeCapability: object,
): VolumeCalls {
  const stagingTargetPath = join(directory, 'kubelet', volumeId, 'globalmount');
  const targetOf = (pod: string) => join(directory, 'kubelet', volumeId, pod);
  mkdirSync(stagingTargetPath, { recursive: true });
  return {
    volumeId,
    stagingPath: stagingTargetPath,
    targetOf,
    stage: () => client.call('NodeStageVolume', { volumeId, stagingTargetPath, volumeCapability }),
    stageOnce: () => client.tryOnce('NodeStageVolume', { volumeId, stagingTargetPath, volumeCapability }),
    publish: (pod, more = {}) =>
      client.call('NodePublishVolume', {
        volumeId,
        stagingTargetPath,
        targetPath: targetOf(pod),
        volumeCapability,
        ...more,
      }),
    unpublish: (pod) => client.call('NodeUnpublishVolume', { volumeId, targetPath: targetOf(pod) }),
    unstage: () => client.call('NodeUnstageVolume', { volumeId, stagingTargetPath }),
    unstageOnce: () => client.tryOnce('NodeUnstageVolume', { volumeId, stagingTargetPath }),
  };
}
