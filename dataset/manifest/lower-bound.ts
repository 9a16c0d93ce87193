import type { ByteString } from '../byte-string.ts';
import type { SegmentRef } from '../format/index-node.ts';
import { comparePaths } from '../path.ts';

/** The first index for which `isBefore` is false; all for which it is true come first. */
export function lowerBound(length: number, isBefore: (index: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The child that ends at or behind `path`: the one that holds it if any does. Undefined where all end before it. */
export function childAt(children: readonly SegmentRef[], path: ByteString): SegmentRef | undefined {
  return children[lowerBound(children.length, (i) => comparePaths(children[i]!.last, path) < 0)];
}
