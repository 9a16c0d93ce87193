import { type Address, isLoopback, parseAddress } from '../cache/neighbours/address.ts';
import type { IdentityFiles } from '../cache/neighbours/identity.ts';
import { parsePeerSource } from '../cache/neighbours/peer-source.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { NeighbourSettings } from '../node/neighbours.ts';
import { bytes, choice, type Variables } from './node-settings.ts';

/**
 * The variables LARDER_NEIGHBOURS and LARDER_NEIGHBOUR_…; undefined where the first is not set.
 * @throws InvalidError that names the variable and what it may be
 */
export function readNeighbourSettings(env: Variables): NeighbourSettings | undefined {
  const list = env.LARDER_NEIGHBOURS;
  if (!list) {
    const lost = Object.keys(env).find((name) => name.startsWith('LARDER_NEIGHBOUR_') && env[name]);
    if (lost === undefined) return undefined;
    throw new InvalidError(`${lost} is set, and LARDER_NEIGHBOURS is not: set it to file:/PATH or dns:NAME:PORT`, {
      facts: { name: lost },
    });
  }
  const listen = address(env, 'LARDER_NEIGHBOUR_LISTEN');
  const self = address(env, 'LARDER_NEIGHBOUR_ADDRESS');
  const plain = choice(env, 'LARDER_NEIGHBOUR_TLS', ['on', 'off']) === 'off';
  if (plain && !(listen === undefined || isLoopback(listen.host)))
    throw new InvalidError(
      'LARDER_NEIGHBOUR_TLS=off is for tests on one machine: LARDER_NEIGHBOUR_LISTEN must be a loopback address then',
      { facts: { name: 'LARDER_NEIGHBOUR_TLS' } },
    );
  return {
    source: parsePeerSource(list, 'LARDER_NEIGHBOURS'),
    listen,
    self,
    identity: plain ? 'plain' : identity(env),
    store: bytes(env, 'LARDER_NEIGHBOUR_STORE'),
  };
}

function address(env: Variables, name: string): Address | undefined {
  const text = env[name];
  return text ? parseAddress(text, name) : undefined;
}

function identity(env: Variables): IdentityFiles {
  const file = (name: string, what: string): string => {
    const path = env[name];
    if (path) return path;
    throw new InvalidError(
      `${name} must be a PEM file with ${what}: neighbours speak TLS with certificates on both sides`,
      {
        facts: { name },
      },
    );
  };
  return {
    certificate: file('LARDER_NEIGHBOUR_CERT', "this node's certificate"),
    key: file('LARDER_NEIGHBOUR_KEY', "the certificate's key"),
    authority: file('LARDER_NEIGHBOUR_CA', "the authority of all neighbours' certificates"),
  };
}
