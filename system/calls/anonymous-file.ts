import { call, cString, declare } from './libc.ts';

const memfdCreate_ = declare('int memfd_create(const void *name, unsigned int flags)');
const MFD_CLOEXEC = 1;

/**
 * memfd_create(2): a file in memory without a place, which is there as long as somebody has a descriptor of it. `name` is for people, in
 * /proc. The caller closes it.
 */
export function anonymousFile(name: string): number {
  return call({ syscall: 'memfd_create' }, memfdCreate_, cString(name), MFD_CLOEXEC);
}
