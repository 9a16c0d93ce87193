import { readFileSync } from 'node:fs';
import { UnavailableError } from '../dataset/errors.ts';

/** CAP_SYS_ADMIN's bit (capabilities(7)). */
const SYS_ADMIN = 1n << 21n;

/**
 * An UnavailableError, with what to do instead, where this process may not mount: said at once, rather than by a daemon that
 * was started in vain.
 * @param status `/proc/self/status`
 */
export function requireMountRights(status: string = readFileSync('/proc/self/status', 'utf8')): void {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (effective === undefined || (BigInt(`0x${effective}`) & SYS_ADMIN) !== 0n) return;
  throw new UnavailableError(
    "mounting needs root (CAP_SYS_ADMIN): run it as root, or make a plain copy with 'larder checkout', which needs nothing",
  );
}
