/** The saver: one process of a node, which reads and uploads what workspaces are saved as, out of the way of whoever works. */
import { constants, setPriority } from 'node:os';
import { useDiskWhenIdle } from '../../system/calls.ts';

// Before any thread starts, so before anything else is loaded.
useDiskWhenIdle();
setPriority(constants.priority.PRIORITY_LOW);
// Without the daemon nobody wants what this does, and its successor has a saver of its own.
process.once('disconnect', () => process.exit(1));

const { acquireLock } = await import('../../system/lock.ts');
const [lock, mostIndexes] = process.argv.slice(2) as [string, string];
// An earlier daemon's may be at its last breath, with an index open.
await acquireLock(lock, 'exclusive');
const { serveSaves } = await import('./saver-jobs.ts');
serveSaves(process, Number(mostIndexes));
