import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount } from '../test/support/privilege.ts';
import {
  cloneTree,
  copyFileRange,
  copyFileRangeAsync,
  duplicate,
  errnoName,
  fadvise,
  fallocate,
  flock,
  flockAsync,
  fsconfigCreate,
  fsconfigSet,
  fsmount,
  fsopen,
  getxattr,
  lgetxattr,
  linkDescriptor,
  listxattr,
  llistxattr,
  lsetxattr,
  MOUNT_ATTR,
  MS,
  makeDevice,
  mknod,
  mount,
  mountAsync,
  moveMount,
  pidfdGetfd,
  pidfdOpen,
  pidfdSendSignal,
  punchHole,
  readRaw,
  removexattr,
  renameat2,
  seekData,
  seekHole,
  setCloseOnExec,
  setMountAttributes,
  setNonBlocking,
  setxattr,
  syncfs,
  thaw,
  UMOUNT,
  umount,
  utimensat,
  waitReadable,
} from './calls.ts';

let dir: string;
const descriptors: number[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder-calls-'));
});

afterEach(() => {
  for (const fd of descriptors.splice(0)) closeSync(fd);
  rmSync(dir, { recursive: true, force: true });
});

function open(path: string, flags: string | number = 'r'): number {
  const fd = openSync(path, flags);
  descriptors.push(fd);
  return fd;
}

function file(name: string, content: string | Uint8Array = ''): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

describe('a failing call', () => {
  it('throws what node:fs would throw', () => {
    const path = join(dir, 'absent');
    let ours: NodeJS.ErrnoException | undefined;
    let theirs: NodeJS.ErrnoException | undefined;
    try {
      getxattr(path, 'user.a');
    } catch (error) {
      ours = error as NodeJS.ErrnoException;
    }
    try {
      statSync(path);
    } catch (error) {
      theirs = error as NodeJS.ErrnoException;
    }
    expect(ours).toBeInstanceOf(Error);
    expect(ours).toMatchObject({ code: theirs!.code, errno: theirs!.errno, path, syscall: 'getxattr' });
    expect(ours!.message).toBe(theirs!.message.replace('stat', 'getxattr'));
  });

  it('names the error of an asynchronous call, and not of what ran in between', async () => {
    const waiting = mountAsync({ source: 'none', target: join(dir, 'absent'), type: 'tmpfs' });
    expect(() => removexattr(file('f'), 'user.absent')).toThrow(expect.objectContaining({ code: 'ENODATA' }));
    await expect(waiting).rejects.toMatchObject({
      code: process.getuid!() === 0 ? 'ENOENT' : 'EPERM',
      syscall: 'mount',
    });
  });

  it('has a name for every number', () => {
    expect(errnoName(2)).toBe('ENOENT');
    expect(errnoName(11)).toBe('EAGAIN');
    expect(errnoName(95)).toBe('ENOTSUP');
    expect(errnoName(117)).toBe('EUCLEAN');
    expect(errnoName(4000)).toBe('E4000');
  });

  it('refuses a path that holds a zero byte, and never uses the part before it', () => {
    expect(() => getxattr(`${dir}\0x`, 'user.a')).toThrow(TypeError);
  });
});

describe('extended attributes', () => {
  it('keep any bytes in name, value and path', () => {
    const path = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe, 0x20])]);
    writeFileSync(path, '');
    const value = Buffer.from([0, 1, 255]);
    setxattr(path, 'user.\xe9\xff', value);
    setxattr(path, 'user.empty', Buffer.alloc(0));
    expect([...listxattr(path)].sort()).toEqual(['user.empty', 'user.\xe9\xff']);
    expect(getxattr(path, Buffer.from('user.\xe9\xff', 'latin1'))).toEqual(value);
    expect(getxattr(path, 'user.empty')).toEqual(Buffer.alloc(0));
    expect(getxattr(path, 'user.other')).toBeUndefined();
    removexattr(path, 'user.empty');
    expect(listxattr(path)).toEqual(['user.\xe9\xff']);
  });

  it('of a symbolic link are its own', () => {
    const path = file('f');
    setxattr(path, 'user.a', Buffer.from('1'));
    symlinkSync('f', join(dir, 'l'));
    expect(listxattr(join(dir, 'l'))).toEqual(['user.a']);
    expect(llistxattr(join(dir, 'l'))).toEqual([]);
    expect(lgetxattr(join(dir, 'l'), 'user.a')).toBeUndefined();
    expect(() => lsetxattr(join(dir, 'l'), 'user.a', Buffer.from('1'))).toThrow(
      expect.objectContaining({ code: 'EPERM', syscall: 'lsetxattr' }),
    );
  });

  it('can be created or replaced only', () => {
    const path = file('f');
    expect(() => setxattr(path, 'user.a', Buffer.from('1'), 'replace')).toThrow(
      expect.objectContaining({ code: 'ENODATA' }),
    );
    setxattr(path, 'user.a', Buffer.from('1'), 'create');
    expect(() => setxattr(path, 'user.a', Buffer.from('2'), 'create')).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );
  });
});

describe('locks', () => {
  it('exclude another open file, and end with the process that held them', async () => {
    const path = file('lock');
    const ours = open(path);
    const program = `import { openSync } from 'node:fs'; import { flock } from ${JSON.stringify(join(import.meta.dirname, 'calls.ts'))};
      console.log(flock(openSync(${JSON.stringify(path)}, 'r'), 'exclusive')); setInterval(() => {}, 1000);`;
    const other = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(other.stdout, 'data')) as [Buffer];
    expect(line.toString()).toBe('true\n');
    expect(flock(ours, 'exclusive')).toBe(false);
    expect(flock(ours, 'shared')).toBe(false);
    let done = false;
    const waiting = flockAsync(ours, 'exclusive').then(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(done).toBe(false);
    other.kill('SIGKILL');
    await waiting;
    expect(flock(open(path), 'shared')).toBe(false);
    flock(ours, 'unlock');
    expect(flock(open(path), 'shared')).toBe(true);
  });

  it('can be given up waiting for', async () => {
    const path = file('lock');
    flock(open(path), 'exclusive');
    const signal = AbortSignal.timeout(20);
    await expect(flockAsync(open(path), 'shared', { signal })).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('files', () => {
  it('tell their holes', () => {
    const fd = open(file('sparse'), 'r+');
    writeSync(fd, 'a', 1 << 20);
    fallocate(fd, 0, 4096, { keepSize: true });
    const data = seekData(fd, 4096)!;
    expect(data % 4096).toBe(0);
    expect(data).toBeLessThanOrEqual(1 << 20);
    expect(seekHole(fd, data)).toBe((1 << 20) + 1);
    expect(seekData(fd, (1 << 20) + 1)).toBeUndefined();
    const before = fstatSync(fd).blocks;
    punchHole(fd, 1 << 20, 4096);
    expect(fstatSync(fd).blocks).toBeLessThan(before);
    expect(() => seekData(999_999, 0)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'lseek' }));
  });

  it('copy ranges beyond 4 GiB', async () => {
    const far = 5 * 2 ** 30;
    const from = open(file('from'), 'r+');
    const to = open(file('to'), 'r+');
    writeSync(from, 'hello', far);
    expect(copyFileRange(from, far + 1, to, far, 100)).toBe(4);
    expect(await copyFileRangeAsync(from, far, to, far + 4, 1)).toBe(1);
    const back = Buffer.alloc(5);
    readSync(to, back, 0, 5, far);
    expect(back.toString()).toBe('elloh');
    expect(copyFileRange(from, far + 5, to, 0, 1)).toBe(0);
  });

  it('keep times to the nanosecond, before 1970 too, and of links themselves', () => {
    const path = file('f');
    symlinkSync('f', join(dir, 'l'));
    utimensat(join(dir, 'l'), 'omit', { seconds: 12, nanos: 34 });
    utimensat(path, 'omit', { seconds: -3, nanos: 999_999_999 });
    expect(lstatSync(join(dir, 'l'), { bigint: true }).mtimeNs).toBe(12_000_000_034n);
    expect(statSync(path, { bigint: true }).mtimeNs).toBe(-2_000_000_001n);
    utimensat(join(dir, 'l'), 'now', { seconds: 1, nanos: 2 }, { follow: true });
    expect(statSync(path, { bigint: true }).mtimeNs).toBe(1_000_000_002n);
  });

  it('swap names, and never replace one that is taken', () => {
    const a = file('a', 'A');
    const b = file('b', 'B');
    expect(() => renameat2(a, b, 'noreplace')).toThrow(expect.objectContaining({ code: 'EEXIST', path: a, dest: b }));
    renameat2(a, b, 'exchange');
    expect(readFileSync(a, 'utf8') + readFileSync(b, 'utf8')).toBe('BA');
  });

  it('get their first name whole', () => {
    const fd = open(dir, constants.O_WRONLY | 0o20200000);
    writeSync(fd, 'whole');
    linkDescriptor(fd, join(dir, 'named'));
    expect(readFileSync(join(dir, 'named'), 'utf8')).toBe('whole');
    expect(() => linkDescriptor(fd, join(dir, 'named'))).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  });

  it('reach the disk, and leave the page cache', async () => {
    const fd = open(file('f', 'x'));
    await syncfs(fd);
    fadvise(fd, 0, 0, 'dontNeed');
    expect(() => fadvise(999_999, 0, 0, 'dontNeed')).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => thaw(fd)).toThrow(expect.objectContaining({ syscall: 'ioctl FITHAW' }));
  });
});

describe('descriptors', () => {
  it('answer whether they are readable', async () => {
    const path = join(dir, 'fifo');
    mknod(path, constants.S_IFIFO | 0o600);
    const fd = open(path, 'r+');
    expect(await waitReadable(fd, 10)).toBe(false);
    setNonBlocking(fd, true);
    expect(() => readRaw(fd, Buffer.alloc(9))).toThrow(expect.objectContaining({ code: 'EAGAIN', syscall: 'read' }));
    writeSync(fd, 'ring');
    expect(await waitReadable(fd, 1000)).toBe(true);
    const bytes = Buffer.alloc(9);
    expect(bytes.toString('utf8', 0, readRaw(fd, bytes))).toBe('ring');
  });

  it('are inherited by a child only when they should be', async () => {
    const fd = duplicate(open(file('f', 'inherited')));
    descriptors.push(fd);
    const cat = () => spawn('cat', [`/proc/self/fd/${fd}`], { stdio: ['ignore', 'pipe', 'ignore'] });
    expect((await once(cat(), 'exit'))[0]).not.toBe(0);
    setCloseOnExec(fd, false);
    expect((await once(cat(), 'exit'))[0]).toBe(0);
  });

  it('of another process are fetched by pidfd, and its end is seen', async () => {
    const path = file('theirs', 'held open');
    const other = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', openSync(path, 'r')] });
    const exited = once(other, 'exit');
    const pidfd = pidfdOpen(other.pid!);
    descriptors.push(pidfd);
    const fd = pidfdGetfd(pidfd, 3);
    descriptors.push(fd);
    expect(readFileSync(fd, 'utf8')).toBe('held open');
    pidfdSendSignal(pidfd, 0);
    expect(await waitReadable(pidfd, 5)).toBe(false);
    pidfdSendSignal(pidfd, 9);
    expect(await waitReadable(pidfd, 5000)).toBe(true);
    await exited;
    expect(() => pidfdSendSignal(pidfd, 0)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
  });
});

describe.skipIf(!canMount)('as root', () => {
  it('makes the device number that stat reads back', () => {
    for (const [major, minor] of [
      [0, 0],
      [7, 300],
      [259, 70_000],
    ] as const) {
      const path = join(dir, `${major}-${minor}`);
      mknod(path, constants.S_IFCHR, makeDevice(major, minor));
      expect(statSync(path).rdev).toBe(makeDevice(major, minor));
      expect(statSync(path).isCharacterDevice()).toBe(true);
    }
  });

  it('mounts, binds and unmounts by the old calls', () => {
    const at = join(dir, 'a b,c:d');
    const bound = join(dir, 'bound');
    mkdirSync(at);
    mkdirSync(bound);
    mount({ source: 'test', target: at, type: 'tmpfs', data: 'size=1m' });
    writeFileSync(join(at, 'f'), '');
    mount({ source: at, target: bound, flags: MS.bind });
    expect(existsSync(join(bound, 'f'))).toBe(true);
    umount(bound);
    const held = openSync(join(at, 'f'), 'r');
    expect(() => umount(at)).toThrow(expect.objectContaining({ code: 'EBUSY', syscall: 'umount2', path: at }));
    umount(at, UMOUNT.detach);
    closeSync(held);
    expect(() => umount(at)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('mounts by the new calls, and repeats what the filesystem said', async () => {
    const context = fsopen('tmpfs');
    descriptors.push(context);
    expect(() => fsconfigSet(context, { kind: 'string', key: 'nonsense', value: '1' })).toThrow(/Unknown parameter/);
    fsconfigSet(context, { kind: 'string', key: 'size', value: '1m' });
    await fsconfigCreate(context);
    const tree = fsmount(context, MOUNT_ATTR.noDev);
    descriptors.push(tree);
    const at = join(dir, 'at');
    const elsewhere = join(dir, 'elsewhere');
    mkdirSync(at);
    mkdirSync(elsewhere);
    moveMount(tree, at);
    writeFileSync(join(at, 'f'), 'x');
    linkSync(join(at, 'f'), join(at, 'g'));
    const clone = cloneTree(at);
    descriptors.push(clone);
    setMountAttributes(clone, { set: MOUNT_ATTR.readOnly });
    moveMount(clone, elsewhere);
    expect(() => writeFileSync(join(elsewhere, 'f'), 'y')).toThrow(expect.objectContaining({ code: 'EROFS' }));
    writeFileSync(join(at, 'f'), 'z');
    umount(elsewhere, UMOUNT.detach);
    umount(at, UMOUNT.detach);
    expect(() => fsopen('nonsense')).toThrow(expect.objectContaining({ code: 'ENODEV', syscall: 'fsopen' }));
  });
});
