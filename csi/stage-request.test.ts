import { describe, expect, it } from 'vitest';
import type { Volume } from '../controller/volume.ts';
import type { Digest } from '../dataset/digest.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { isEphemeral, podOf } from './pod.ts';
import { stageRequestOf } from './stage-request.ts';

const digest = (letter: string) => letter.repeat(64) as Digest;

function volume(kind: Volume['kind'], settings: Partial<VolumeSettings> = {}): Volume {
  const all: VolumeSettings = { retention: 'drop', ...settings };
  return {
    id: 'vol-1',
    name: 'pvc-1',
    kind,
    dataset: 'birds',
    base: digest('a'),
    version: digest('b'),
    capacityBytes: 5,
    asked: { capacityBytes: 5, settings: all },
    settings: all,
    generation: 0,
    created: '2026-01-02T03:04:05.678Z',
  };
}

describe('what a node is asked to stage', () => {
  const usual = { volume: 'vol-1', dataset: 'birds', version: digest('b'), stagingPath: '/s' };

  it('is what the record says, and nothing of what it does not say', () => {
    expect(stageRequestOf(volume('pinned'), { stagingPath: '/s' })).toEqual({ ...usual, kind: 'pinned' });
    expect(stageRequestOf(volume('workspace'), { stagingPath: '/s' })).toEqual({
      ...usual,
      kind: 'workspace',
      capacityBytes: 5,
    });
  });

  it('has all settings, and a group', () => {
    const settings = { prefetch: 'all', uid: 1, gid: 2, mode: 0o750, deadline: 3, bandwidth: 4, autosave: 0 };
    expect(stageRequestOf(volume('workspace', settings), { stagingPath: '/s', mountGroup: 0 })).toEqual({
      ...usual,
      kind: 'workspace',
      capacityBytes: 5,
      autosave: 0,
      prefetch: 'all',
      deadline: 3,
      bandwidth: 4,
      view: { uid: 1, gid: 2, mode: 0o750, mountGroup: 0 },
    });
    expect(stageRequestOf(volume('pinned', settings), { stagingPath: '/s' })).not.toHaveProperty('autosave');
  });

  it('stays the version that is staged', () => {
    const known = {
      dataset: 'birds',
      version: digest('a'),
      kind: 'pinned',
      stagingPath: '/s',
      state: 'staged',
    } as const;
    expect(stageRequestOf(volume('pinned'), { stagingPath: '/s', known }).version).toBe(digest('a'));
  });
});

describe('the pod that a volume is for', () => {
  const context = {
    'csi.storage.k8s.io/pod.name': 'trainer-0',
    'csi.storage.k8s.io/pod.namespace': 'research',
    'csi.storage.k8s.io/serviceAccount.name': 'trainer',
  };

  it('is known where the cluster tells', () => {
    expect(podOf(context)).toEqual({ namespace: 'research', name: 'trainer-0', serviceAccount: 'trainer' });
    expect(podOf({ dataset: 'birds' })).toBeUndefined();
  });

  it('has a volume of its own only where the cluster says so', () => {
    expect(isEphemeral({ ...context, 'csi.storage.k8s.io/ephemeral': 'true' })).toBe(true);
    expect(isEphemeral({ ...context, 'csi.storage.k8s.io/ephemeral': 'false' })).toBe(false);
    expect(isEphemeral(context)).toBe(false);
  });
});
