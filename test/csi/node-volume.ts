import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import type { CsiClient } from './client.ts';

/** A volume with the paths that a kubelet would choose for it, and the requests for its life on a node. */
export interface NodeVolume {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  targetOf(pod: string): string;
  readonly stage: object;
  publish(pod: string, more?: object): object;
  unpublish(pod: string): object;
}

/** Creates a volume. */
export async function makeVolume(
  client: CsiClient,
  kubelet: string,
  name: string,
  capability: object,
  changes: object,
): Promise<NodeVolume> {
  const { volume } = await client.call('CreateVolume', { name, volumeCapabilities: [capability], ...changes });
  return nodeVolume(kubelet, volume.volumeId, capability);
}

export function nodeVolume(kubelet: string, volumeId: string, capability: object): NodeVolume {
  const stagingTargetPath = join(kubelet, volumeId, 'globalmount');
  const targetOf = (pod: string) => join(kubelet, volumeId, pod);
  mkdirSync(stagingTargetPath, { recursive: true });
  return {
    volumeId,
    stagingTargetPath,
    targetOf,
    stage: { volumeId, stagingTargetPath, volumeCapability: capability },
    publish: (pod, more = {}) => ({
      volumeId,
      stagingTargetPath,
      targetPath: targetOf(pod),
      volumeCapability: capability,
      ...more,
    }),
    unpublish: (pod) => ({ volumeId, targetPath: targetOf(pod) }),
  };
}

/** Stages it and publishes it for a pod. @returns where the pod has it */
export async function startVolume(client: CsiClient, one: NodeVolume, pod = 'pod'): Promise<string> {
  await client.call('NodeStageVolume', one.stage);
  await client.call('NodePublishVolume', one.publish(pod));
  return one.targetOf(pod);
}

/** Ends its life: pods, node, record. */
export async function endVolume(client: CsiClient, one: NodeVolume, ...pods: readonly string[]): Promise<void> {
  for (const pod of pods) await client.call('NodeUnpublishVolume', one.unpublish(pod));
  await client.call('NodeUnstageVolume', one.stage);
  await client.call('DeleteVolume', one.stage);
}

/** The SHA-256 of each file below a directory, by its path. */
export function digests(directory: string): Record<string, Digest> {
  return Object.fromEntries(files(directory).map((path) => [path, sha256(readFileSync(join(directory, path)))]));
}

export function sizeOf(directory: string): number {
  return files(directory).reduce((sum, path) => sum + statSync(join(directory, path)).size, 0);
}

function files(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}
