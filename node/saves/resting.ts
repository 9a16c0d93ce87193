import { isErrno } from '../../dataset/errors.ts';
import { type Rest, restOf } from '../../mount/save/log-end.ts';

/** Asks the filesystems of workspaces whether anything was done, in this process: a thousandth of what the smallest save costs. */
export interface Resting {
  /** False where something was done, and where it cannot be told now: whoever saves tells why. */
  goesOn(at: string, rest: Rest): Promise<boolean>;
}

/** @param most so many are asked at once: a sync of one that is written to takes one of this process's few threads for as long as its disk does */
export function createResting(most: number): Resting {
  let asked = 0;
  return {
    async goesOn(at, { device, logged }) {
      if (asked >= most) return false;
      asked += 1;
      try {
        const now = await restOf(at);
        return now?.device === device && now.logged === logged;
      } catch (error) {
        // Not there any more, or shut down by the kernel.
        if (isErrno(error, 'ENOENT') || isErrno(error, 'EIO')) return false;
        throw error;
      } finally {
        asked -= 1;
      }
    },
  };
}
