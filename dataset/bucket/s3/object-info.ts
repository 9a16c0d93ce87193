import type { ObjectInfo } from '../bucket.ts';

/** An ETag as we keep it: without the quotes of the header. */
export function etagOf(header: string | undefined): string {
  return (header ?? '').replace(/^(?:W\/)?"(.*)"$/, '$1');
}

/** An ETag as a condition's header has it. */
export function quoted(etag: string): string {
  return `"${etag}"`;
}

export function infoOf(
  answer: {
    readonly ETag?: string | undefined;
    readonly LastModified?: Date | undefined;
    readonly VersionId?: string | undefined;
  },
  size: number,
): ObjectInfo {
  const { VersionId: version } = answer;
  return {
    size,
    etag: etagOf(answer.ETag),
    modified: answer.LastModified ?? new Date(0),
    ...(version === undefined || version === '' || version === 'null' ? {} : { version }),
  };
}
