/** What stands for all values beyond the limit. */
export const OTHER = 'other';

/**
 * Keeps the number of a label's values bounded: the first `limit` of them are themselves, all that come later are `other`. What has a
 * name keeps it for as long as the daemon runs, so that no series goes on under another name.
 */
export function boundedLabel(limit: number): (value: string) => string {
  const known = new Set<string>();
  return (value) => {
    if (known.has(value)) return value;
    if (known.size >= limit) return OTHER;
    known.add(value);
    return value;
  };
}
