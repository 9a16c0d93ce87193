import { describe, expect, it } from 'vitest';
import { patienceFor, rateFor } from '../cache/source-limits.ts';
import type { Digest } from '../dataset/digest.ts';
import { VersionLimits } from './version-limits.ts';

const OWN = 60_000;
const limitsOf = (...volumes: Parameters<VersionLimits['set']>[1][]) => {
  const limits = new VersionLimits();
  for (const [at, volume] of volumes.entries()) limits.set(`v${at}`, volume);
  return limits;
};

describe('what holds for a version', () => {
  it('is the longest deadline and the widest bandwidth of its volumes', () => {
    const limits = limitsOf({ deadline: 5_000, bandwidth: 1_000 }, { deadline: 90_000, bandwidth: 3_000 });
    expect([limits.patience(OWN), limits.rate?.bytesPerSecond]).toEqual([90_000, 3_000]);
    limits.delete('v1');
    expect([limits.patience(OWN), limits.rate?.bytesPerSecond]).toEqual([5_000, 1_000]);
  });

  it("is the node's own for a volume that says nothing", () => {
    expect(limitsOf({ deadline: 5_000 }, {}).patience(OWN)).toBe(OWN);
    expect(limitsOf({ bandwidth: 1_000 }, {}).rate).toBeUndefined();
  });

  it('frees what is on its way when a volume without a limit joins, and holds it again when that leaves', () => {
    const limits = limitsOf({ bandwidth: 1_000 });
    const { rate } = limits;
    limits.set('free', {});
    expect(rate?.bytesPerSecond).toBe(Number.POSITIVE_INFINITY);
    expect(limits.rate).toBeUndefined();
    limits.delete('free');
    expect(limits.rate?.bytesPerSecond).toBe(1_000);
  });
});

describe('an object of several versions', () => {
  const [inBoth, inFirst, inNone] = ['both', 'first', 'none'] as string[] as Digest[];
  const sources = [
    { map: { has: (id: Digest) => id !== inNone }, limits: limitsOf({ deadline: 1_000, bandwidth: 10 }) },
    { map: { has: (id: Digest) => id === inBoth }, limits: limitsOf({ deadline: 2_000, bandwidth: 20 }) },
  ];

  it('has the longest patience and the widest rate of those that want it', () => {
    expect([inBoth, inFirst, inNone].map((id) => patienceFor(id!, () => sources, OWN))).toEqual([2_000, 1_000, OWN]);
    expect([inBoth, inFirst, inNone].map((id) => rateFor(id!, () => sources)?.bytesPerSecond)).toEqual([
      20,
      10,
      undefined,
    ]);
  });

  it('comes as fast as it does where one of them has no limit', () => {
    const free = { map: { has: () => true } };
    expect(rateFor(inBoth!, () => [...sources, free])).toBeUndefined();
    expect(patienceFor(inBoth!, () => [...sources, free], OWN)).toBe(OWN);
  });
});
