import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { InvalidError } from '../../dataset/errors.ts';

/** Where a neighbour listens. */
export interface Address {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * `HOST:PORT`, `IPv4:PORT` or `[IPv6]:PORT`.
 * @param what names it in the error
 */
export function parseAddress(text: string, what: string): Address {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/i.exec(text.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port >= 0 && port <= 65_535) || (match?.[1] !== undefined && isIP(host) !== 6))
    throw new InvalidError(`${what} must be HOST:PORT, such as 10.0.0.7:7411 or [fd00::7]:7411, not '${text}'`, {
      facts: { address: text },
    });
  return { host: host.toLowerCase(), port };
}

/** The one way to write an address: by it, all nodes agree on owners. */
export function formatAddress({ host, port }: Address): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** The IP addresses of this machine, or of this network namespace. */
export function ownAddresses(): ReadonlySet<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
}
