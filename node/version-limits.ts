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
  /** Of those that say how long, and whether one does not. */
  #longest = 0;
  #hasOwn = true;

  set(volume: string, { deadline, bandwidth }: VolumeLimits): void {
    this.#volumes.set(volume, { deadline, bandwidth });
    this.#follow();
  }

  delete(volume: string): void {
    this.#volumes.delete(volume);
    this.#follow();
  }

  patience(own: number): number {
    return this.#hasOwn ? Math.max(own, this.#longest) : this.#longest;
  }

  get rate(): Rate | undefined {
    return this.#rate;
  }

  #follow(): void {
    const volumes = [...this.#volumes.values()];
    this.#longest = Math.max(0, ...volumes.map(({ deadline = 0 }) => deadline));
    this.#hasOwn = volumes.length === 0 || volumes.some(({ deadline }) => deadline === undefined);
    const rates = volumes.map(({ bandwidth = Number.POSITIVE_INFINITY }) => bandwidth);
    const widest = rates.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...rates);
    // What is on its way by it goes on as fast as it may now.
    if (this.#rate !== undefined) this.#rate.bytesPerSecond = widest;
    this.#rate = widest === Number.POSITIVE_INFINITY ? undefined : (this.#rate ?? new Rate(widest));
  }
}
