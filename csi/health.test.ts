import { describe, expect, it } from 'vitest';
import { nodeHealth, recordCondition, recordHealth, storageHealth } from './health.ts';

const ID = 'vol-1';

describe('the health of a volume', () => {
  it('that is well has no entries, and its condition says what it is', () => {
    const well = { summary: 'version 0123 of birds', problems: [] };
    expect(recordHealth(ID, well)).toEqual({ volumeId: ID, healthStatuses: [] });
    expect(recordCondition(well)).toEqual({ abnormal: false, message: 'version 0123 of birds' });
    expect(nodeHealth(ID, { abnormal: false, reason: 'healthy', message: 'mounted' })).toEqual({
      volumeId: ID,
      healthStatuses: [],
    });
  });

  it('has every problem, and its condition tells all of them before what it is', () => {
    const ill = {
      summary: 'a workspace of birds',
      problems: [
        { reason: 'holder-lost', message: 'node-7 is gone' },
        { reason: 'changes-set-aside', message: 'merge aside/pvc-1/node-7-1' },
      ],
    } as const;
    expect(recordHealth(ID, ill).healthStatuses).toEqual([
      { status: 'DEGRADED', reason: 'NodeLost', message: 'node-7 is gone' },
      { status: 'DEGRADED', reason: 'ChangesSetAside', message: 'merge aside/pvc-1/node-7-1' },
    ]);
    expect(recordCondition(ill)).toEqual({
      abnormal: true,
      message: 'node-7 is gone. merge aside/pvc-1/node-7-1. a workspace of birds',
    });
  });

  it('is no longer than a thousand of them fit in one answer', () => {
    const problem = { reason: 'changes-set-aside', message: 'birds@aside/x, '.repeat(500) } as const;
    const ill = { summary: 'a workspace', problems: [problem] };
    expect(recordCondition(ill).message).toHaveLength(1000);
    expect(recordHealth(ID, ill).healthStatuses[0]?.message).toHaveLength(1000);
  });

  it('is that it cannot be reached only where its mount is gone', () => {
    const statuses = (['not-mounted', 'not-saved', 'fenced', 'unavailable'] as const).map(
      (reason) => nodeHealth(ID, { abnormal: true, reason, message: 'm' }).healthStatuses[0]?.status,
    );
    expect(statuses).toEqual(['INACCESSIBLE', 'DEGRADED', 'DEGRADED', 'DEGRADED']);
  });
});

describe('the health of the storage', () => {
  it('has what is wrong with what volumes need, each reason once', () => {
    const health = storageHealth([
      { name: 'ring', ok: true, message: 'serves' },
      { name: 'disk', ok: false, message: 'full' },
      { name: 'repository /a', ok: false, message: 'away' },
      { name: 'repository /b', ok: false, message: 'away too' },
      { name: 'event-loop', ok: false, message: 'stood still' },
    ]);
    expect(health).toEqual([
      { status: 'STORAGE_DEGRADED', reason: 'CacheDiskFull', message: 'disk: full' },
      {
        status: 'STORAGE_DEGRADED',
        reason: 'RepositoryUnavailable',
        message: 'repository /a: away; repository /b: away too',
      },
    ]);
  });

  it('is that it cannot be reached where nothing more can come', () => {
    expect(storageHealth([{ name: 'ring', ok: false, message: 'it ended' }])).toEqual([
      { status: 'STORAGE_UNREACHABLE', reason: 'RingEnded', message: 'ring: it ended' },
    ]);
  });
});
