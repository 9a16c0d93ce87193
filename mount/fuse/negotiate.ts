import { FEATURE, PROTOCOL } from './protocol.ts';
import type { InitAnswer } from './reply.ts';

/** What INIT settled. Travels with the descriptor to who takes the session over, for INIT is asked only once. */
export interface Negotiated {
  readonly minor: number;
  /** The kernel can send again what a killed daemon had read (Linux 6.9). */
  readonly resend: boolean;
  /** Lookups in one directory do not wait for each other. */
  readonly parallel: boolean;
  /** Opens may be passed through to a file (Linux 6.9). */
  readonly passthrough: boolean;
  /** The longest READ, in bytes. */
  readonly maxRead: number;
}

/** What we ask for where the kernel offers it. */
export const WANTED =
  FEATURE.parallelDirectoryOperations |
  FEATURE.abortError |
  FEATURE.asyncRead |
  FEATURE.maxPages |
  FEATURE.passthrough |
  FEATURE.resend;

const PAGE = 4096;
/** The kernel's own limit (fs.fuse.max_pages_limit) is 256 unless root raised it. */
const MAX_PAGES = 256;
/** What a kernel without FEATURE.maxPages asks for at most. */
const OLD_MAX_PAGES = 32;

/**
 * The answer to INIT: of what the kernel offers, what is wanted. A kernel of a higher major asks again with ours; one that is too old
 * gives `refused`, to be answered EPROTO.
 */
export function negotiate(
  offer: {
    readonly major: number;
    readonly minor: number;
    readonly features: bigint;
  },
  wanted: bigint = WANTED,
): { readonly answer: InitAnswer; readonly settled: Negotiated | undefined } | { readonly refused: string } {
  const limits = {
    maxReadahead: MAX_PAGES * PAGE * 16,
    maxWrite: PAGE,
    // Reads ahead that wait for the bucket count against it, those of all files together: what is over it waits in the kernel.
    maxBackground: 1024,
    maxPages: MAX_PAGES,
    maxStackDepth: 0,
  };
  const { major, minor } = PROTOCOL;
  if (offer.major > major) return { answer: { major, minor, features: 0n, ...limits }, settled: undefined };
  if (offer.major < major || offer.minor < PROTOCOL.oldestMinor)
    return {
      refused: `the kernel speaks FUSE ${offer.major}.${offer.minor}; ${major}.${PROTOCOL.oldestMinor} is needed`,
    };
  const common = offer.features & wanted;
  // FEATURE.extended says that flags2 is to be read; a kernel that did not offer it would not know.
  const features = common | (offer.features & FEATURE.extended);
  const spoken = Math.min(minor, offer.minor);
  const has = (feature: bigint) => (common & feature) !== 0n;
  const high = (feature: bigint) => has(feature) && (features & FEATURE.extended) !== 0n;
  const passthrough = high(FEATURE.passthrough);
  return {
    // 1: files of a plain filesystem only, and the ring itself then counts as one on top of another.
    answer: { major, minor: spoken, features, ...limits, maxStackDepth: passthrough ? 1 : 0 },
    settled: {
      minor: spoken,
      resend: high(FEATURE.resend),
      parallel: has(FEATURE.parallelDirectoryOperations),
      passthrough,
      maxRead: (has(FEATURE.maxPages) ? MAX_PAGES : OLD_MAX_PAGES) * PAGE,
    },
  };
}
