import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { utimensat } from '../../system/calls/file.ts';
import { getxattr, listxattr, lsetxattr } from '../../system/calls/xattr.ts';

/** For tests: a tree in lines, one an entry, with all that a version keeps of it; in order of the lines. */
export function describeTree(root: string): string[] {
  const lines: string[] = [];
  const groups = new Map<string, string>();
  const visit = (path: Buffer, shown: string) => {
    const stat = fs.lstatSync(path, { bigint: true });
    const facts = [(stat.mode & 0o7777n).toString(8), stat.uid, stat.gid, stat.mtimeNs];
    if (stat.isDirectory()) {
      lines.push(`${shown} directory ${facts.join(' ')} ${attributes(path)}`);
      for (const name of fs.readdirSync(path, 'latin1').sort())
        visit(Buffer.concat([path, Buffer.from('/'), Buffer.from(name, 'latin1')]), `${shown}/${name}`);
      return;
    }
    if (stat.isSymbolicLink()) lines.push(`${shown} symlink ${facts.join(' ')} ${fs.readlinkSync(path, 'latin1')}`);
    else if (stat.isFile()) {
      const digest = createHash('sha256').update(fs.readFileSync(path)).digest('hex');
      let link = '';
      if (stat.nlink > 1n) {
        const key = `${stat.dev} ${stat.ino}`;
        if (!groups.has(key)) groups.set(key, shown);
        link = ` = ${groups.get(key)}`;
      }
      lines.push(`${shown} file ${facts.join(' ')} ${stat.size} ${digest} ${attributes(path)}${link}`);
    }
  };
  visit(Buffer.from(root), '.');
  return lines;
}

function attributes(path: Buffer): string {
  return listxattr(path)
    .filter((name) => name.startsWith('user.'))
    .sort()
    .map((name) => `${name}=${getxattr(path, name)!.toString('hex')}`)
    .join(',');
}

/** For tests: sets an mtime to the nanosecond. */
export function setTime(path: string | Buffer, seconds: number, nanos: number): void {
  utimensat(path, 'omit', { seconds, nanos });
}

/** For tests: sets an attribute; false where the file system keeps none. */
export function trySetAttribute(path: string, name: string, value: string): boolean {
  try {
    lsetxattr(path, name, Buffer.from(value));
    return true;
  } catch {
    return false;
  }
}

/** For tests: numbers that look random and are the same in every run. */
export function randomizer(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

/** For tests: bytes that do not compress and are the same in every run. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let a = seed | 1;
  for (let i = 0; i + 4 <= length; i += 4) {
    a ^= a << 13;
    a ^= a >>> 17;
    a ^= a << 5;
    bytes.writeInt32LE(a, i);
  }
  return bytes;
}
