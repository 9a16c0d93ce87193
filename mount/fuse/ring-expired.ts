/** How long after a read that ended at its deadline the same bytes fail at once, in ms. */
const AGAIN = 1000;

/**
 * Reads that ended at their deadline. Where reading ahead failed, the kernel asks once more for the page that somebody waits for: he
 * has waited long enough.
 */
export function createExpired() {
  let ranges: { readonly node: bigint; readonly from: number; readonly to: number; readonly time: number }[] = [];
  const recent = () => {
    const oldest = Date.now() - AGAIN;
    return ranges.filter((range) => range.time >= oldest);
  };
  return {
    add(node: bigint, from: number, to: number): void {
      ranges = [...recent(), { node, from, to, time: Date.now() }];
    },
    has(node: bigint, from: number): boolean {
      if (ranges.length === 0) return false;
      ranges = recent();
      return ranges.some((range) => range.node === node && range.from <= from && from < range.to);
    },
  };
}
