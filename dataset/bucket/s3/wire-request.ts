/** What the SDK gives to send. */
export interface WireRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** The host's name or address, which of IPv6 stands in brackets in a URL. */
export function wireHost({ hostname }: WireRequest): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

/** The path with the query, as the signature has them. */
export function wirePath({ path, query }: WireRequest): string {
  const pairs: string[] = [];
  for (const [name, value] of Object.entries(query ?? {}))
    for (const each of Array.isArray(value) ? value : [value as string | null])
      pairs.push(each === null ? escaped(name) : `${escaped(name)}=${escaped(each)}`);
  return path + (pairs.length === 0 ? '' : `?${pairs.join('&')}`);
}

/** RFC 3986, as the signature has it. */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
