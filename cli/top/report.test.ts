import { describe, expect, it } from 'vitest';
import type { NodeStats } from '../../node/protocol.ts';
import { topLines } from './lines.ts';
import { quantile, topReport } from './report.ts';

const version = 'bb'.padEnd(64, '0') as NodeStats['volumes'][number]['version'];

/** A daemon that has been up for so long, and has done a thousand times that. */
function stats(uptimeSeconds: number, more: Partial<NodeStats> = {}): NodeStats {
  const done = uptimeSeconds * 1000;
  const read = { reads: uptimeSeconds, failed: 0, bytes: done };
  return {
    at: Date.UTC(2026, 10, 25, 22, 0, uptimeSeconds),
    uptimeSeconds,
    process: { residentBytes: 100 * 2 ** 20, cpuSeconds: uptimeSeconds / 4 },
    counts: {
      datasets: [
        {
          dataset: 'emoji',
          misses: { ready: done, absent: 0, stream: 0, failed: 0, abandoned: 0 },
          bytes: done * 10,
          waits: { bounds: [0.01, 0.1], counts: [done / 2, done / 2, 0], sum: done * 0.02 },
        },
      ],
      fetched: {
        bucket: read,
        neighbour: { reads: 0, failed: 0, bytes: 0 },
        source: { reads: 0, failed: 0, bytes: 0 },
      },
      streamedBytes: 0,
      evictedObjects: 0,
      evictedBytes: 0,
      damaged: 0,
      healed: 0,
    },
    state: {
      hydrator: {
        waiting: 3,
        queued: { urgent: 1, next: 2, prefetch: 400 },
        running: 8,
        reads: 6,
        bytesInFlight: 2 ** 20,
      },
      streams: {
        open: 2,
        inMemory: 1,
        diskBytes: 2 ** 21,
        memoryBytes: 2 ** 22,
        fetches: { running: 0, bytesInFlight: 0, queued: { urgent: 0, ahead: 0 } },
      },
      ring: {},
      cache: { objects: 12, bytes: 2 ** 30, diskBytes: 2 ** 40, diskFreeBytes: 2 ** 39 },
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
      requests: {},
    },
    health: { ok: true, checks: [] },
    volumes: [
      { volume: 'v', kind: 'pinned', directory: '/mnt/a', repository: '/r', dataset: 'emoji', version },
      { volume: 'w', kind: 'pinned', directory: '/mnt/b', repository: '/r', dataset: 'idle', version },
    ],
    ...more,
  };
}

describe('a report', () => {
  it('has what was done between two looks, by the second', () => {
    const report = topReport(stats(20), stats(10));
    expect(report).toMatchObject({ seconds: 10, process: { cpuPercent: 25 } });
    expect(report.datasets).toMatchObject([
      { dataset: 'emoji', misses: { ready: 10_000 }, missesPerSecond: 1000, bytesPerSecond: 10_000 },
    ]);
    expect(report.fetched.bucket).toEqual({ bytesPerSecond: 1000, readsPerSecond: 1, failed: 0 });
  });

  it('is of the daemon’s whole life where there was no look before, or it was started anew', () => {
    expect(topReport(stats(20)).seconds).toBe(20);
    const anew = topReport(stats(5), stats(1000));
    expect([anew.seconds, anew.fetched.bucket.bytesPerSecond]).toEqual([5, 1000]);
  });

  it('says nothing of waits where nobody waited', () => {
    const [dataset] = topReport({ ...stats(20), counts: stats(10).counts }, stats(10)).datasets;
    expect(dataset).not.toHaveProperty('waitSeconds');
    expect(dataset?.missesPerSecond).toBe(0);
  });

  it('guesses quantiles within their buckets', () => {
    const waits = { bounds: [0.01, 0.1], counts: [50, 50, 0], sum: 3 };
    expect(quantile(waits, 0.5)).toBeCloseTo(0.01);
    expect(quantile(waits, 0.75)).toBeCloseTo(0.055);
    expect(quantile({ ...waits, counts: [0, 0, 7] }, 0.5)).toBe(0.1);
    expect(quantile({ ...waits, counts: [0, 10, 0] }, 0)).toBe(0.01);
  });
});

describe('its lines', () => {
  it('have the datasets that are mounted, also those that nobody waits for', () => {
    const lines = topLines(topReport(stats(20), stats(10)));
    expect(lines).toEqual(
      expect.arrayContaining([
        expect.stringContaining('up 20.0 s'),
        'health   well',
        expect.stringContaining('bucket 1000 B/s'),
        expect.stringMatching(/^waiting {2}3 objects .* 400 prefetch/),
        'streams  2 files open, 2.00 MiB on the disk, 4.00 MiB in memory',
        expect.stringMatching(/^emoji +1,000 +9.77 KiB\/s +10 ms +98 ms +0 +0 {2}\/mnt\/a$/),
        expect.stringMatching(/^idle +0 .*\/mnt\/b$/),
      ]),
    );
    expect(lines.join('\n')).not.toContain('neighbour');
  });

  it('tell what is wrong', () => {
    const checks = [{ name: 'keeper', ok: false, message: 'none holds the ring' }];
    const lines = topLines(topReport(stats(20, { health: { ok: false, checks } })));
    expect(lines).toContain('wrong    keeper: none holds the ring');
  });

  it('fit the terminal', () => {
    for (const line of topLines(topReport(stats(20)), 30)) expect(line.length).toBeLessThanOrEqual(30);
  });
});
