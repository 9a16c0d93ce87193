import { describe, expect, it } from 'vitest';
import {
  CapacityError,
  fitsRange,
  pinnedCapacity,
  WORKSPACE_DEFAULT,
  WORKSPACE_MAXIMUM,
  WORKSPACE_MINIMUM,
  workspaceCapacity,
} from './capacity.ts';

const MIB = 2 ** 20;

describe("a workspace's capacity", () => {
  it('is 1 GiB where nobody asks for a size', () => {
    expect(workspaceCapacity({})).toBe(2 ** 30);
  });

  it('is what is required, to the byte', () => {
    expect(workspaceCapacity({ required: 1_000_000_001, limit: 1_000_000_001 })).toBe(1_000_000_001);
  });

  it('is never less than XFS can be made of', () => {
    expect(workspaceCapacity({ required: 1 })).toBe(300 * MIB);
    expect(workspaceCapacity({ required: 1, limit: 300 * MIB })).toBe(WORKSPACE_MINIMUM);
  });

  it('stays below a limit that is less than the default', () => {
    expect(workspaceCapacity({ limit: 500 * MIB })).toBe(500 * MIB);
    expect(workspaceCapacity({ limit: 2 ** 40 })).toBe(WORKSPACE_DEFAULT);
  });

  it('is never more than a file of ext4 can hold', () => {
    expect(workspaceCapacity({ required: 2 ** 44 - 4096 })).toBe(WORKSPACE_MAXIMUM);
    expect(() => workspaceCapacity({ required: 2 ** 44 })).toThrow(/at most 17592186040320 bytes \(16 TiB\)/);
  });

  it('is refused where the range leaves none', () => {
    expect(() => workspaceCapacity({ limit: 300 * MIB - 1 })).toThrow(CapacityError);
    expect(() => workspaceCapacity({ required: 2 ** 31, limit: 2 ** 30 })).toThrow(/raise the limit/);
  });
});

describe("a pinned volume's capacity", () => {
  it("is its version's size, or what a claim asks for beyond that", () => {
    expect(pinnedCapacity(5000, {})).toBe(5000);
    expect(pinnedCapacity(5000, { required: 4000 })).toBe(5000);
    expect(pinnedCapacity(5000, { required: 2 ** 30 })).toBe(2 ** 30);
  });

  it('is refused where the version is larger than the limit', () => {
    expect(() => pinnedCapacity(5001, { limit: 5000 })).toThrow(CapacityError);
    expect(pinnedCapacity(5000, { limit: 5000 })).toBe(5000);
  });
});

describe('a range', () => {
  it('holds the sizes between its bounds, bounds included', () => {
    expect(fitsRange(10, { required: 10, limit: 10 })).toBe(true);
    expect(fitsRange(9, { required: 10 })).toBe(false);
    expect(fitsRange(11, { limit: 10 })).toBe(false);
    expect(fitsRange(11, {})).toBe(true);
  });
});
