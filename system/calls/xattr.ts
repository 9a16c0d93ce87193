import { attempt, cString, declare, errnoOf, type PathLike, systemError } from './libc.ts';

/** An attribute's name: a Buffer, or a string in which each code unit is one byte (as names come from `listxattr`). */
export type XattrName = string | Uint8Array;

const forms = {
  follow: family('const void *target', ''),
  link: family('const void *target', 'l'),
  fd: family('int target', 'f'),
} as const;

function family(target: string, prefix: '' | 'l' | 'f') {
  return {
    prefix,
    get: declare(`long ${prefix}getxattr(${target}, const void *name, void *value, size_t size)`),
    set: declare(`int ${prefix}setxattr(${target}, const void *name, const void *value, size_t size, int flags)`),
    list: declare(`long ${prefix}listxattr(${target}, void *list, size_t size)`),
    remove: declare(`int ${prefix}removexattr(${target}, const void *name)`),
  };
}

type Form = (typeof forms)[keyof typeof forms];

// The largest value and the largest list that the kernel allows (linux/limits.h: XATTR_SIZE_MAX, XATTR_LIST_MAX). One thread, and
// every call copies out before it returns, so that one buffer serves all.
const scratch = Buffer.alloc(65536);

const none: readonly string[] = Object.freeze([]);

function read(form: Form, target: PathLike | number, name: XattrName): Buffer | undefined {
  const { result, errno } = attempt(form.get, argument(target), nameBytes(name), scratch, scratch.length);
  if (result >= 0) return Buffer.from(scratch.subarray(0, result));
  if (errno === errnoOf.ENODATA) return undefined;
  throw failure(errno, form, 'getxattr', target);
}

function list(form: Form, target: PathLike | number): readonly string[] {
  const { result, errno } = attempt(form.list, argument(target), scratch, scratch.length);
  if (result === 0) return none;
  if (result < 0) {
    if (errno === errnoOf.ENOTSUP) return none;
    throw failure(errno, form, 'listxattr', target);
  }
  return scratch.toString('latin1', 0, result - 1).split('\0');
}

function write(form: Form, target: PathLike | number, name: XattrName, value: Uint8Array, mode?: 'create' | 'replace') {
  const flags = mode === 'create' ? 1 : mode === 'replace' ? 2 : 0;
  const { result, errno } = attempt(form.set, argument(target), nameBytes(name), value, value.length, flags);
  if (result === -1) throw failure(errno, form, 'setxattr', target);
}

function remove(form: Form, target: PathLike | number, name: XattrName): void {
  const { result, errno } = attempt(form.remove, argument(target), nameBytes(name));
  if (result === -1) throw failure(errno, form, 'removexattr', target);
}

function argument(target: PathLike | number) {
  return typeof target === 'number' ? target : cString(target);
}

function nameBytes(name: XattrName): Buffer {
  return cString(typeof name === 'string' ? Buffer.from(name, 'latin1') : name);
}

function failure(errno: number, form: Form, call: string, target: PathLike | number) {
  return systemError(errno, { syscall: form.prefix + call, path: typeof target === 'number' ? undefined : target });
}

/** The attribute's value, or undefined where the file has none of that name. Follows symbolic links. */
export function getxattr(path: PathLike, name: XattrName): Buffer | undefined {
  return read(forms.follow, path, name);
}

/** The same, of a symbolic link itself. */
export function lgetxattr(path: PathLike, name: XattrName): Buffer | undefined {
  return read(forms.link, path, name);
}

export function fgetxattr(fd: number, name: XattrName): Buffer | undefined {
  return read(forms.fd, fd, name);
}

/** Names, each code unit one byte, in the order the filesystem gives; empty where it has no attributes at all. */
export function listxattr(path: PathLike): readonly string[] {
  return list(forms.follow, path);
}

export function llistxattr(path: PathLike): readonly string[] {
  return list(forms.link, path);
}

export function flistxattr(fd: number): readonly string[] {
  return list(forms.fd, fd);
}

/** Sets; `create` fails with EEXIST where it is there, `replace` with ENODATA where it is not. */
export function setxattr(path: PathLike, name: XattrName, value: Uint8Array, mode?: 'create' | 'replace'): void {
  write(forms.follow, path, name, value, mode);
}

export function lsetxattr(path: PathLike, name: XattrName, value: Uint8Array, mode?: 'create' | 'replace'): void {
  write(forms.link, path, name, value, mode);
}

export function fsetxattr(fd: number, name: XattrName, value: Uint8Array, mode?: 'create' | 'replace'): void {
  write(forms.fd, fd, name, value, mode);
}

/** Removes; ENODATA where it is not there. */
export function removexattr(path: PathLike, name: XattrName): void {
  remove(forms.follow, path, name);
}

export function lremovexattr(path: PathLike, name: XattrName): void {
  remove(forms.link, path, name);
}

export function fremovexattr(fd: number, name: XattrName): void {
  remove(forms.fd, fd, name);
}
