import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';

/** A path as `node:fs` takes it: a string is text (encoded as UTF-8), a Buffer is bytes. */
export type PathLike = string | Uint8Array;

/** The functions of the C library that this process already has loaded: one name, one signature, no library to find. */
const process_ = koffi.load(null);

/** Numbers of system calls that old C libraries have no wrapper for. From 424 on, every architecture has the same numbers. */
const numbers: Record<string, { mknodat: number; renameat2: number; copyFileRange: number }> = {
  x64: { mknodat: 259, renameat2: 316, copyFileRange: 326 },
  arm64: { mknodat: 33, renameat2: 276, copyFileRange: 285 },
};

/** The system call number of `name` on this machine. */
export function numberOf(name: 'mknodat' | 'renameat2' | 'copyFileRange'): number {
  const table = numbers[process.arch];
  if (!table) throw new Error(`Larder makes system calls on x64 and arm64; this machine is ${process.arch}`);
  return table[name];
}

export type Argument = number | bigint | string | Uint8Array | null;

/** A C function: what it returns, or -1 with `koffi.errno()` set. */
export interface Native {
  (...args: Argument[]): number;
  async(...args: [...Argument[], (error: Error | null, result: number) => void]): void;
}

/** Declares a function of the C library, for instance `declare('int umount2(const void *path, int flags)')`. */
export function declare(prototype: string): Native {
  return process_.func(prototype) as unknown as Native;
}

/** Declares `syscall(2)` with one fixed list of arguments. Both architectures pass variadic integers as they pass others. */
export function declareSyscall(...types: string[]): Native {
  return process_.func('syscall', 'long', ['long', ...types]) as unknown as Native;
}

/** Facts of a call, which its error repeats. */
export interface CallFacts {
  readonly syscall: string;
  readonly path?: PathLike | undefined;
  readonly dest?: PathLike | undefined;
}

/** Calls, and throws an error like Node's own when the result is -1. */
export function call(facts: CallFacts, native: Native, ...args: Argument[]): number {
  const result = native(...args);
  if (result === -1) throw systemError(koffi.errno(), facts);
  return result;
}

/** The same on a thread of libuv's pool, for calls that can block long. The arguments' memory stays alive until the end. */
export function callAsync(facts: CallFacts, native: Native, ...args: Argument[]): Promise<number> {
  const trace = new Error();
  return new Promise((resolve, reject) => {
    native.async(...args, (error, result) => {
      const number = result === -1 ? koffi.errno() : 0;
      if (error) reject(error);
      else if (result === -1) reject(systemError(number, facts, trace.stack));
      else resolve(result);
      keep(args);
    });
  });
}

/** Named in a callback, its argument lives until the callback has run: the kernel may be writing to those buffers. */
function keep(_buffers: readonly Argument[]): void {}

/** Calls, and gives the error number instead of throwing: 0 when it went well. For where a failure is common. */
export function attempt(native: Native, ...args: Argument[]): { result: number; errno: number } {
  const result = native(...args);
  return { result, errno: result === -1 ? koffi.errno() : 0 };
}

const names = new Map<number, string>();
for (const [name, number] of Object.entries(koffi.os.errno)) {
  // EWOULDBLOCK, EDEADLOCK and ENOTSUP are second names.
  const known = names.get(number);
  if (known === undefined || known === 'EWOULDBLOCK' || known === 'EDEADLOCK' || known === 'EOPNOTSUPP')
    if (name !== 'EWOULDBLOCK' && name !== 'EDEADLOCK' && name !== 'EOPNOTSUPP') names.set(number, name);
}
names.set(koffi.os.errno.EAGAIN!, 'EAGAIN');

const strerror = process_.func('const char *strerror(int number)') as unknown as (number: number) => string;

/** Error numbers by name, positive, as the kernel knows them. */
export const errnoOf = koffi.os.errno as Readonly<Record<string, number>>;

/** `ENOENT` of 2. */
export function errnoName(number: number): string {
  return getSystemErrorMap().get(-number)?.[0] ?? names.get(number) ?? `E${number}`;
}

/** An error shaped like those of `node:fs`: `code`, negative `errno`, `syscall`, `path`, `dest`. */
export function systemError(
  number: number,
  facts: CallFacts,
  stack?: string,
): NodeJS.ErrnoException & { dest?: string } {
  const code = errnoName(number);
  const text = getSystemErrorMap().get(-number)?.[1] ?? strerror(number).toLowerCase();
  const path = facts.path === undefined ? undefined : shown(facts.path);
  const dest = facts.dest === undefined ? undefined : shown(facts.dest);
  const where = `${path === undefined ? '' : ` '${path}'`}${dest === undefined ? '' : ` -> '${dest}'`}`;
  const error = new Error(`${code}: ${text}, ${facts.syscall}${where}`) as NodeJS.ErrnoException & { dest?: string };
  error.errno = -number;
  error.code = code;
  error.syscall = facts.syscall;
  if (path !== undefined) error.path = path;
  if (dest !== undefined) error.dest = dest;
  if (stack) error.stack = `${error.name}: ${error.message}\n${stack.split('\n').slice(1).join('\n')}`;
  return error;
}

function shown(path: PathLike): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString('utf8');
}

/** A NUL-terminated copy. A NUL inside would silently cut the name, so it is refused. */
export function cString(path: PathLike): Buffer {
  const bytes = typeof path === 'string' ? Buffer.from(path, 'utf8') : path;
  if (bytes.indexOf(0) >= 0)
    throw new TypeError(`a path or name cannot hold a zero byte: ${JSON.stringify(shown(bytes))}`);
  const result = Buffer.alloc(bytes.length + 1);
  result.set(bytes);
  return result;
}

/** Both machines use the generic encoding: direction, size of the argument, type and number (asm-generic/ioctl.h). */
export function ioctlNumber(
  direction: 'none' | 'write' | 'read' | 'both',
  type: number,
  number: number,
  size: number,
): number {
  const bits = { none: 0, write: 1, read: 2, both: 3 }[direction];
  return ((bits << 30) | (size << 16) | (type << 8) | number) >>> 0;
}

const ioctlPointer = declare('int ioctl(int fd, unsigned long request, void *argument)');
const ioctlInteger = process_.func('ioctl', 'int', ['int', 'unsigned long', 'long']) as unknown as Native;

/** ioctl(2) with a pointer to `argument`, which the kernel may change, or with an integer. */
export function ioctl(
  name: string,
  fd: number,
  request: number,
  argument: Buffer | number = 0,
  path?: PathLike,
): number {
  const facts = { syscall: name, path };
  return typeof argument === 'number'
    ? call(facts, ioctlInteger, fd, request, argument)
    : call(facts, ioctlPointer, fd, request, argument);
}

/** The same without blocking the event loop. */
export function ioctlAsync(
  name: string,
  fd: number,
  request: number,
  argument: Buffer | number = 0,
  path?: PathLike,
): Promise<number> {
  const facts = { syscall: name, path };
  return typeof argument === 'number'
    ? callAsync(facts, ioctlInteger, fd, request, argument)
    : callAsync(facts, ioctlPointer, fd, request, argument);
}
