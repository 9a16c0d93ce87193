import koffi from 'koffi';

// malloc.h of glibc.
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;

let done = false;

/**
 * Makes freed memory go back to the system, for the whole process: by default, the C library takes freed large blocks as a reason to keep
 * more and more, and every thread has an arena of its own; many buffers that move between threads then stay resident after they
 * are freed. To be called before threads start. Does nothing where the C library has no such setting.
 */
export function giveMemoryBack(): void {
  if (done) return;
  done = true;
  let mallopt: (parameter: number, value: number) => number;
  try {
    mallopt = koffi.load(null).func('int mallopt(int parameter, int value)') as unknown as typeof mallopt;
  } catch {
    // Not glibc.
    return;
  }
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  mallopt(M_ARENA_MAX, 2);
}
