import { collect } from '../../dataset/collect.ts';
import { openRepository } from '../../dataset/repository.ts';

/**
 * For tests: collects again and again, without any grace, and is killed in the middle of its n-th change of the store, or after. Nobody else may
 * write meanwhile.
 */
const [location, changes] = process.argv.slice(2) as [string, string];
const repository = await openRepository(location);
const { bucket } = repository;
let left = Number(changes);
const die = () => process.kill(process.pid, 'SIGKILL');
const counted = <P extends unknown[], R>(act: (...parameters: P) => Promise<R>) => {
  return async (...parameters: P): Promise<R> => {
    left -= 1;
    if (left !== 0) return await act(...parameters);
    // The change is on its way, or done.
    const done = act(...parameters);
    if (Number(changes) % 2 === 0) await done;
    die();
    return await done;
  };
};
bucket.put = counted(bucket.put.bind(bucket));
bucket.delete = counted(bucket.delete.bind(bucket));
for (;;) await collect({ repository, grace: 0, timing: { settle: 0, lease: 0 } });
