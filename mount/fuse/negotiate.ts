import { FEATURE, PROTOCOL } from './protocol.ts';
import type { InitAnswer } from './reply.ts';

/** What INIT settled. Travels with the descriptor to who takes the session over, for INIT is asked only once. */
export interface Negotiated {
  readonly minor: number;
  /** The kernel can send again what a killed daemon had read (Linux 6.9). */
  readonly resend: boolean;
  /** Lookups in one directory do not wait for each other. */
  readonly parallel: boolean;
}

/** What we ask for where the kernel offers it. */
export const WANTED = FEATURE.parallelDirectoryOperations | FEATURE.abortError | FEATURE.asyncRead | FEATURE.resend;

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
  const limits = { maxReadahead: 131_072, maxWrite: 4096, maxBackground: 64 };
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
  return {
    answer: { major, minor: spoken, features, ...limits },
    settled: {
      minor: spoken,
      resend: (common & FEATURE.resend) !== 0n && (features & FEATURE.extended) !== 0n,
      parallel: (common & FEATURE.parallelDirectoryOperations) !== 0n,
    },
  };
}
