import { hash } from 'node:crypto';

/*
 * Rendezvous hashing (Thaler and Ravishankar, 1996): every node gives every peer a score for a name, and the highest owns it. No state is
 * shared, the load is even, and when a peer comes or goes, only the names move that it gets or had. docs/formats.md has the arithmetic:
 * nodes that differ in it would disagree on owners.
 */

/** 64 bits that stand for a peer or a name. */
export interface Seed {
  readonly high: number;
  readonly low: number;
}

/** Of a peer, by how the list of peers names it. */
export function peerSeed(name: string): Seed {
  const bytes = hash('sha256', name, 'buffer');
  return { high: bytes.readUInt32BE(0), low: bytes.readUInt32BE(4) };
}

/** Of an object, by the digest that ends its key. */
export function digestSeed(digest: string): Seed {
  return { high: Number.parseInt(digest.slice(0, 8), 16), low: Number.parseInt(digest.slice(8, 16), 16) };
}

/** A whole number below 2^53. */
export function score(peer: Seed, name: Seed): number {
  const first = mix(peer.high ^ mix(name.high));
  const second = mix(peer.low ^ mix((first ^ name.low) >>> 0));
  return mix((first + second) >>> 0) * 2 ** 21 + (second >>> 11);
}

/** The peers, the owner of the digest first, then who owns it without the owner, and so on. */
export function ranked<P extends { readonly name: string; readonly seed: Seed }>(
  peers: readonly P[],
  digest: string,
): P[] {
  const name = digestSeed(digest);
  return peers
    .map((peer) => ({ peer, score: score(peer.seed, name) }))
    .sort((a, b) => b.score - a.score || (a.peer.name < b.peer.name ? -1 : 1))
    .map(({ peer }) => peer);
}

/** The finalizer of MurmurHash3 (Appleby, public domain): each bit of the result depends on each bit of the number. */
function mix(number: number): number {
  let h = number;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
