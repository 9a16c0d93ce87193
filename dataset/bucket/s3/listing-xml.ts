/*
 * The SDK's XML parser takes some 50 ms for a page of a thousand objects, more than a store takes to make it. A page is flat text
 * of few kinds of element, so that it is read by looking for them:
 *
 *   <ListBucketResult …> <IsTruncated>true</IsTruncated> <NextContinuationToken>…</NextContinuationToken> …
 *     <Contents> <Key>…</Key> <LastModified>…</LastModified> <ETag>"…"</ETag> <Size>5</Size> … </Contents> …
 *   </ListBucketResult>
 *
 * or ListVersionsResult with `Version`, `VersionId`, `IsLatest`, NextKeyMarker and NextVersionIdMarker.
 */

export interface ListingPage {
  readonly items: readonly Readonly<Record<string, string>>[];
  /** The elements beside the items. */
  readonly fields: Readonly<Record<string, string>>;
}

/**
 * @param root `ListBucketResult` or `ListVersionsResult`
 * @param item `Contents` or `Version`
 * @returns undefined where the text is no such page, or only a part of one
 */
export function parseListing(text: string, root: string, item: string): ListingPage | undefined {
  if (!new RegExp(`<${root}[\\s>]`).test(text.slice(0, 1000)) || !text.trimEnd().endsWith(`</${root}>`))
    return undefined;
  const open = `<${item}>`;
  const close = `</${item}>`;
  const items: Record<string, string>[] = [];
  let rest = '';
  let at = 0;
  for (;;) {
    const start = text.indexOf(open, at);
    if (start < 0) break;
    const end = text.indexOf(close, start);
    if (end < 0) return undefined;
    rest += text.slice(at, start);
    items.push(elementsOf(text.slice(start + open.length, end)));
    at = end + close.length;
  }
  return { items, fields: elementsOf(rest + text.slice(at)) };
}

/** Elements that hold text only. */
function elementsOf(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/<(\w+)>([^<]*)<\/\1>/g)) found[name!] ??= unescaped(value!);
  return found;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescaped(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    return ENTITIES[name] ?? whole;
  });
}
