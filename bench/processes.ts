import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../dataset/errors.ts';

/** What /proc counts processor time in. */
const TICKS_PER_SECOND = 100;

/** The largest resident size of a process since it started or since `forgetPeak`, in bytes; 0 where it has ended. */
export function peakResident(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(procFile(pid, 'status'))?.[1] ?? 0) * 1024;
}

/** The resident size of a process, in bytes; 0 where it has ended. */
export function resident(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(procFile(pid, 'status'))?.[1] ?? 0) * 1024;
}

/** Makes the largest resident size of each process what it has now (proc(5), clear_refs). */
export function forgetPeak(pids: readonly number[]): void {
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/**
 * Processor time that processes have used so far, all their threads together, in seconds.
 * @param options.ended with that of children that have ended
 */
export function processorSeconds(pids: readonly number[], options: { readonly ended?: boolean } = {}): number {
  let ticks = 0;
  for (const pid of pids) {
    // Behind the command's name, which may hold anything: utime and stime are fields 14 and 15, and cutime and cstime the next two.
    const fields = procFile(pid, 'stat').split(') ').at(-1)!.split(' ');
    for (const field of fields.slice(11, options.ended ? 15 : 13)) ticks += Number(field);
  }
  return ticks / TICKS_PER_SECOND;
}

/** The processes that these have started and that are theirs still, and these. */
export function withChildren(pids: readonly number[]): number[] {
  const all = [...pids];
  for (let at = 0; at < all.length; at += 1) {
    const children = procFile(all[at]!, `task/${all[at]}/children`).trim();
    if (children !== '') all.push(...children.split(' ').map(Number));
  }
  return all;
}

/** Waits until none of these processes is there any more. */
export async function ended(pids: readonly number[], seconds = 60): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (pids.some((pid) => isRunning(pid))) {
    if (performance.now() > deadline) throw new Error(`of the processes ${pids.join(', ')} some would not end`);
    await sleep(20);
  }
}

/** A process that has ended and that nobody has waited for counts as gone. */
function isRunning(pid: number): boolean {
  const stat = procFile(pid, 'stat');
  return stat !== '' && !stat.split(') ').at(-1)!.startsWith('Z');
}

/** Empty where the process has ended. */
function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ESRCH')) return '';
    throw error;
  }
}
