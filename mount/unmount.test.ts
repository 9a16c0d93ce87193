import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mount } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { describeHolder, holdersOf } from './holders.ts';
import { mountAt } from './mount-table.ts';
import { cleanLeftovers, unmount, unmountAndRemove } from './unmount.ts';

let dir: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder-unmount-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
});

function mounted(name: string): string {
  const target = join(dir, name);
  if (!existsSync(target)) mkdirSync(target);
  mount({ source: `larder:${name}`, target, type: 'tmpfs' });
  return target;
}

/** Runs a shell that says when it holds what it should. */
async function holding(script: string, ...prefix: string[]): Promise<ChildProcess> {
  const [program, ...args] = [...prefix, 'sh', '-c', `${script}; echo ready; exec sleep 1000`];
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout!, 'data');
  return child;
}

describe.skipIf(!canMount)('unmounting', () => {
  it('takes away everything stacked on the directory, and is content where nothing is', async () => {
    const target = mounted('stack');
    mounted('stack');
    expect(await unmount(target)).toEqual({ unmounted: true, detached: false, holders: [] });
    expect(await unmount(target)).toEqual({ unmounted: false, detached: false, holders: [] });
    expect(await unmount(join(dir, 'nowhere'))).toEqual({ unmounted: false, detached: false, holders: [] });
  });

  it('follows a link to the mount point', async () => {
    const target = mounted('real');
    symlinkSync('real', join(dir, 'link'));
    expect(await unmount(join(dir, 'link'))).toMatchObject({ unmounted: true });
    expect(mountAt(target)).toBeUndefined();
  });

  it('detaches what is in use, and names who uses it and how', async () => {
    const target = mounted('busy');
    writeFileSync(join(target, 'file'), 'x');
    const reader = await holding(`exec 9<'${target}/file'`);
    const visitor = await holding(`cd '${target}'`);
    const result = await unmount(target);
    expect(result).toMatchObject({ unmounted: true, detached: true });
    const by = (child: ChildProcess) => result.holders.filter((holder) => holder.pid === child.pid);
    expect(by(reader)).toEqual([
      { pid: reader.pid, command: 'sleep', how: 'open file', path: expect.stringMatching(/\/file$/) },
    ]);
    expect(by(visitor)[0]).toMatchObject({ how: 'working directory', path: target });
    expect(result.holders.every((holder) => holder.pid === reader.pid || holder.pid === visitor.pid)).toBe(true);
    expect(describeHolder(by(reader)[0]!)).toMatch(/^sleep \(pid \d+\): open file .*\/file$/);
    expect(readdirSync(target)).toEqual([]);
  });

  it('names a program and a mapped file', async () => {
    const target = mounted('program');
    copyFileSync('/bin/sleep', join(target, 'sleep'));
    const child = spawn(join(target, 'sleep'), ['1000'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    const hows = (await holdersOf(mountAt(target)!))
      .filter((holder) => holder.pid === child.pid)
      .map((holder) => holder.how);
    expect(hows).toEqual(['program', 'mapped file']);
  });

  it('names a mount on top of it, and a mount namespace that has it too', async () => {
    const target = mounted('outer');
    mkdirSync(join(target, 'inner'));
    mount({ source: 'inner', target: join(target, 'inner'), type: 'tmpfs' });
    const other = await holding('true', 'unshare', '-m', '--propagation', 'private');
    const holders = await holdersOf(mountAt(target)!);
    expect(holders).toContainEqual({
      pid: process.pid,
      command: expect.any(String),
      how: 'mount',
      path: join(target, 'inner'),
    });
    expect(holders).toContainEqual({ pid: other.pid, command: expect.any(String), how: 'mount', path: target });
    expect(await unmount(target)).toMatchObject({ detached: true });
  });

  it('removes the empty directory, and never one that holds something', async () => {
    const target = mounted('gone');
    await unmountAndRemove(target);
    expect(existsSync(target)).toBe(false);
    await unmountAndRemove(target);
    mkdirSync(target);
    writeFileSync(join(target, 'precious'), '');
    await expect(unmountAndRemove(target)).rejects.toMatchObject({ code: 'ENOTEMPTY' });
  });
});

describe.skipIf(!canMount)('after a crash', () => {
  it('what is still mounted in our directory is found and unmounted, top first, except what is claimed', async () => {
    const target = mounted('a');
    mounted('a');
    mkdirSync(join(target, 'below'));
    mount({ source: 'below', target: join(target, 'below'), type: 'tmpfs' });
    const kept = mounted('kept');
    const fd = openSync(join(target, 'below'), 'r');
    const cleaned = await cleanLeftovers(dir, (mountPoint) => mountPoint === kept);
    closeSync(fd);
    expect(cleaned.map(({ mountPoint, type }) => [mountPoint, type])).toEqual([
      [join(target, 'below'), 'tmpfs'],
      [target, 'tmpfs'],
    ]);
    expect(cleaned[0]).toMatchObject({ detached: true, holders: [expect.objectContaining({ pid: process.pid })] });
    expect(mountAt(target)).toBeUndefined();
    expect(mountAt(kept)!.type).toBe('tmpfs');
    expect(await cleanLeftovers(join(dir, 'nowhere'))).toEqual([]);
  });
});
