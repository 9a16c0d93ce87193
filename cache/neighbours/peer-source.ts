import { lookup, resolveSrv } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { InvalidError } from '../../dataset/errors.ts';
import { formatAddress, parseAddress } from './address.ts';

/** Where the list of nodes comes from. */
export type PeerSource =
  | { readonly kind: 'file'; readonly path: string }
  /** Each address of a name is a node; all listen on one port. */
  | { readonly kind: 'addresses'; readonly name: string; readonly port: number }
  /** SRV records: each is a node with its port. */
  | { readonly kind: 'services'; readonly name: string };

/** How names are looked up: the system's way, so that /etc/hosts and search domains hold. */
export interface Resolver {
  lookup(name: string): Promise<readonly string[]>;
  services(name: string): Promise<readonly { readonly name: string; readonly port: number }[]>;
}

export const systemResolver: Resolver = {
  lookup: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
  services: resolveSrv,
};

/**
 * `file:/PATH`, `dns:NAME:PORT`, or `dns:_SERVICE._tcp.NAME` for SRV records.
 * @param what names it in the error
 */
export function parsePeerSource(text: string, what: string): PeerSource {
  const [, scheme, rest = ''] = /^(file|dns):(.+)$/.exec(text) ?? [];
  if (scheme === 'file' && rest.startsWith('/')) return { kind: 'file', path: rest };
  if (scheme === 'dns' && /^_[a-z0-9-]+\._tcp\.[a-z0-9.-]+$/i.test(rest)) return { kind: 'services', name: rest };
  const [, name, port] = /^([a-z0-9.-]+):(\d{1,5})$/i.exec(scheme === 'dns' ? rest : '') ?? [];
  if (name !== undefined && Number(port) >= 1 && Number(port) <= 65_535)
    return { kind: 'addresses', name, port: Number(port) };
  throw new InvalidError(
    `${what} must be file:/PATH, dns:NAME:PORT or dns:_SERVICE._tcp.NAME (SRV records), not '${text}'`,
    { facts: { name: what } },
  );
}

/** The nodes as they are named there, each once, sorted. Errors tell what could not be read. */
export async function readPeers(source: PeerSource, resolver: Resolver): Promise<readonly string[]> {
  const names = await namesOf(source, resolver);
  return [...new Set(names)].sort();
}

async function namesOf(source: PeerSource, { lookup, services }: Resolver): Promise<string[]> {
  switch (source.kind) {
    case 'file':
      return parsePeerFile(await readFile(source.path, 'utf8'), source.path);
    case 'addresses':
      return (await lookup(source.name)).map((host) => formatAddress({ host, port: source.port }));
    case 'services':
      return (await services(source.name)).map(({ name, port }) =>
        formatAddress({ host: name.replace(/\.$/, '').toLowerCase(), port }),
      );
  }
}

/** One address a line; what follows a `#` is left out. */
export function parsePeerFile(text: string, path: string): string[] {
  return text
    .split('\n')
    .map((line, at) => ({ line: line.replace(/#.*/, '').trim(), number: at + 1 }))
    .filter(({ line }) => line !== '')
    .map(({ line, number }) => formatAddress(parseAddress(line, `line ${number} of ${path}`)));
}
