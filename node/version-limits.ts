import { Rate } from '../cache/rate.ts';
import type { SourceLimits } from '../cache/source-limits.ts';

/** What a volume asks for, of what its version's fetches are shared in. */
export interface VolumeLimits {
  /** In milliseconds; absent for the node's own. */
  readonly deadline?: number | undefined;
  /** In bytes a second; absent for no limit. */
  readonly bandwidth?: number | undefined;
}

/**
 * What holds for a version that several volumes have staged. What one of them fetches, all have, and the kernel does not say which of them
 * asks: so the longest deadline of them counts, and the widest bandwidth.
 */
export class VersionLimits implements SourceLimits {
  readonly #volumes = new Map<string, VolumeLimits>();
  #rate: Rate | undefined;

  set(volume: string, { deadline, bandwidth }: VolumeLimits): void {
    this.#volumes.set(volume, { deadline, bandwidth });
    this.#follow();
  }

  delete(volume: string): void {
    this.#volumes.delete(volume);
    this.#follow();
  }

  patience(own: number): number {
    if (this.#volumes.size === 0) return own;
    return Math.max(...this.#volumes.values().map(({ deadline }) => deadline ?? own));
  }

  get rate(): Rate | undefined {
    return this.#rate;
  }

  #follow(): void {
    const rates = [...this.#volumes.values()].map(({ bandwidth }) => bandwidth ?? Number.POSITIVE_INFINITY);
    const widest = rates.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...rates);
    // What is on its way by it goes on as fast as it may now.
    if (this.#rate !== undefined) this.#rate.bytesPerSecond = widest;
    this.#rate = widest === Number.POSITIVE_INFINITY ? undefined : (this.#rate ?? new Rate(widest));
  }
}
