import { call, declareSyscall } from './libc.ts';

const PIDFD_SEND_SIGNAL = 424;
const PIDFD_OPEN = 434;
const PIDFD_GETFD = 438;

const pidfdOpen_ = declareSyscall('int', 'unsigned int');
const pidfdGetfd_ = declareSyscall('int', 'int', 'unsigned int');
const pidfdSendSignal_ = declareSyscall('int', 'int', 'void *', 'unsigned int');

/** pidfd_open(2): a descriptor that names this very process, also after its number is used again. The caller closes it. */
export function pidfdOpen(pid: number): number {
  return call({ syscall: 'pidfd_open' }, pidfdOpen_, PIDFD_OPEN, pid, 0);
}

/** pidfd_getfd(2): a copy of the other process's descriptor, closed on exec. Needs the right to trace that process. */
export function pidfdGetfd(pidfd: number, fd: number): number {
  return call({ syscall: 'pidfd_getfd' }, pidfdGetfd_, PIDFD_GETFD, pidfd, fd, 0);
}

/** pidfd_send_signal(2); signal 0 only asks whether the process lives (ESRCH: no). */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  call({ syscall: 'pidfd_send_signal' }, pidfdSendSignal_, PIDFD_SEND_SIGNAL, pidfd, signal, null, 0);
}

// linux/ioprio.h; numbers of ioprio_set(2), which the C library has no wrapper for.
const IOPRIO_SET: Record<string, number> = { x64: 251, arm64: 30 };
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_IDLE = 3;
const IOPRIO_CLASS_SHIFT = 13;

const ioprioSet_ = declareSyscall('int', 'int', 'int');

/**
 * ioprio_set(2): this thread, and all that it starts from now on, use the disk only when nobody else does. A disk scheduler that knows no
 * priorities takes no notice. To be called before other threads start.
 */
export function useDiskWhenIdle(): void {
  const number = IOPRIO_SET[process.arch];
  if (number === undefined) return;
  const priority = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
  call({ syscall: 'ioprio_set' }, ioprioSet_, number, IOPRIO_WHO_PROCESS, 0, priority);
}
