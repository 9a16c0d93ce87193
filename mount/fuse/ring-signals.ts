import { readFileSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';

/**
 * Why a thread that waits for an answer was interrupted. The kernel says only that it has a signal, once, and also says so for
 * signals that a wait on a disk would sit out: a child's end, a profiler's tick, a stop, a freeze. Answered EINTR, those would make a
 * plain `open` fail in programs that no local filesystem fails.
 *
 * - `dying`: it was killed and ends as soon as the call returns;
 * - `asked`: it has a signal by which somebody wants it to stop what it does, or that would kill it with a core dump;
 * - `busy`: it has none of these now.
 */
export type Interruption = 'dying' | 'asked' | 'busy';

const bit = (signal: number) => 1n << BigInt(signal - 1);
const set = (...signals: number[]) => signals.reduce((mask, signal) => mask | bit(signal), 0n);

// Signal numbers of x86-64 and arm64.
const KILL = bit(9);
/** HUP, INT, QUIT, ALRM, TERM. */
const REQUESTS = set(1, 2, 3, 14, 15);
/** QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS: the kernel kills with these only when the thread is back from its call. */
const CORE_DUMPS = set(3, 4, 5, 6, 7, 8, 11, 24, 25, 31);

/** Of the text of /proc/<thread>/status. */
export function classify(status: string): Interruption {
  const mask = (name: string) => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
  const own = mask('SigPnd');
  // Whatever kills a process is turned into a SIGKILL of each of its threads.
  if ((own & KILL) !== 0n) return 'dying';
  const pending = (own | mask('ShdPnd')) & ~mask('SigBlk') & ~mask('SigIgn');
  const caught = mask('SigCgt');
  if ((pending & caught & REQUESTS) !== 0n || (pending & ~caught & CORE_DUMPS) !== 0n) return 'asked';
  return 'busy';
}

/** Of a thread, by the number that the kernel gave us; 0 stands for one of another pid namespace, of which nothing is known. */
export function interruptionOf(thread: number): Interruption {
  if (thread === 0) return 'asked';
  try {
    return classify(readFileSync(`/proc/${thread}/status`, 'latin1'));
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ESRCH')) return 'dying';
    throw error;
  }
}
