import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import type { NodeState } from './state.ts';
import { createStateMetrics } from './state-metrics.ts';

const state: NodeState = {
  hydrator: { waiting: 3, queued: { urgent: 1, next: 2, prefetch: 400 }, running: 8, reads: 6, bytesInFlight: 7 },
  streams: {
    open: 2,
    inMemory: 1,
    diskBytes: 10,
    memoryBytes: 20,
    fetches: { running: 4, bytesInFlight: 5, queued: { urgent: 6, ahead: 7 } },
  },
  ring: { held: 5, ready: 10, failed: 1, reads: 4, blockReads: 5, carried: 6, lastChances: 2 },
  cache: { objects: 12, bytes: 100, diskBytes: 1000, diskFreeBytes: 500 },
  capacity: {
    minFree: 1,
    diskBytes: 2,
    diskFree: 3,
    held: 4,
    room: -5,
    evicting: false,
    evictedObjects: 0,
    evictedBytes: 0,
  },
  keeper: true,
  volumes: { pinned: 1, workspace: 0 },
  stagedVersions: 1,
  saves: {
    saves: { created: 3, idle: 9 },
    milliseconds: 1500,
    staged: 2,
    failing: 1,
    fenced: 0,
    unsaved: 0,
    lag: 2500,
  },
  snapshots: { pending: 4 },
  requests: { 's3://bucket/prefix': { get: { count: 3, bytes: 30, errors: 1, retries: 2 } } },
};

function metrics() {
  const registry = new Registry();
  const set = createStateMetrics(registry);
  const lines = async (now: NodeState) => {
    set(now);
    return (await registry.metrics()).split('\n').filter((line) => !line.startsWith('#'));
  };
  return { lines };
}

it('has what the daemon does now, and what its parts have counted', async () => {
  expect(await metrics().lines(state)).toEqual(
    expect.arrayContaining([
      'larder_hydrate_queued{priority="prefetch"} 400',
      'larder_hydrate_reads 6',
      'larder_ring_lookups_total{outcome="failed"} 1',
      'larder_ring_reads_total 9',
      'larder_ring_carried_total 6',
      'larder_ring_last_chances_total 2',
      'larder_saves_total{outcome="created"} 3',
      'larder_save_seconds_total 1.5',
      'larder_save_workspaces{state="failing"} 1',
      'larder_save_lag_seconds 2.5',
      'larder_snapshots_pending 4',
      'larder_stream_queued{priority="ahead"} 7',
      'larder_repository_requests_total{repository="s3://bucket/prefix",kind="get"} 3',
      'larder_repository_request_retries_total{repository="s3://bucket/prefix",kind="get"} 2',
    ]),
  );
});

it('counts what was counted once, however often it is asked', async () => {
  const { lines } = metrics();
  await lines(state);
  const again = await lines({ ...state, ring: { ...state.ring, ready: 11 } });
  expect(again).toContain('larder_ring_lookups_total{outcome="ready"} 11');
});

it('has no series of what there is not: a limit of 0 would be another thing', async () => {
  const { lines } = metrics();
  const limited = await lines({ ...state, capacity: { ...state.capacity, limit: 6 } });
  expect(limited).toEqual(expect.arrayContaining(['larder_cache_limit_bytes 6', 'larder_cache_room_bytes -5']));
  const unlimited = await lines(state);
  expect(unlimited.filter((line) => line.startsWith('larder_cache_limit'))).toEqual([]);
  expect(unlimited.filter((line) => line.startsWith('larder_neighbours'))).toEqual([]);
  const alone = await lines({ ...state, snapshots: undefined });
  expect(alone.filter((line) => line.startsWith('larder_snapshots'))).toEqual([]);
});
