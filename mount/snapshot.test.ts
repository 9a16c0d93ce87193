import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ByteString } from '../dataset/byte-string.ts';
import { sha256 } from '../dataset/digest.ts';
import type { DirectoryEntry } from '../dataset/entry.ts';
import { canMount } from '../test/support/privilege.ts';
import { type SmallDisk, smallDisk } from '../test/support/small-disk.ts';
import { loopDevicesOf } from './loop.ts';
import { type CloneMember, cloneImage, cloneNames, cloneTogether, mountClone, removeClones } from './snapshot.ts';
import { cleanLeftovers, unmountAndRemove } from './unmount.ts';
import { createWorkspaceImage, MIN_WORKSPACE_BYTES, mountWorkspace } from './workspace.ts';

const root = { type: 'directory', path: '', mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 } as const;

let dir: string;
let disk: SmallDisk;
let count = 0;

beforeAll(async () => {
  if (!canMount) return;
  dir = mkdtempSync(join(tmpdir(), 'larder-snapshot-'));
  disk = await smallDisk({ type: 'xfs', bytes: 2 * 2 ** 30 });
});

afterAll(async () => {
  if (!canMount) return;
  await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
  await disk[Symbol.asyncDispose]();
});

interface Place {
  readonly file: string;
  readonly at: string;
  readonly upper: string;
}

/** A mounted workspace on a disk with reflink. */
async function workspace(folder = disk.directory): Promise<Place> {
  count += 1;
  const file = join(folder, `${count}.xfs`);
  const at = join(dir, String(count));
  mkdirSync(at);
  await createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES });
  const { upper } = await mountWorkspace({ file, at, root: root as unknown as DirectoryEntry & { path: ByteString } });
  return { file, at, upper };
}

async function insideClone<Result>({ clone }: CloneMember, look: (upper: string) => Result): Promise<Result> {
  const at = `${join(dir, String(++count))}.seen`;
  mkdirSync(at);
  const upper = await mountClone({ clone, at });
  try {
    return look(upper);
  } finally {
    await unmountAndRemove(at);
  }
}

/**
 * Writes files, each with an fsync, and then a line `<name> <digest>` to a journal with an fsync: what the journal names is on the disk. Other
 * files are overwritten in place and renamed all the time, so that there is always something half done.
 */
const WRITER = `
  import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
  import { createHash } from 'node:crypto';
  const [upper, journalAt] = process.argv.slice(1);
  const journal = openSync(journalAt, 'a');
  for (let i = 0; ; i += 1) {
    const name = 'f' + (i % 400);
    const data = Buffer.alloc(100 + (i * 7919) % 30000, i % 251);
    const busy = openSync(upper + '/busy', 'a+');
    writeSync(busy, data);
    closeSync(busy);
    const fd = openSync(upper + '/' + name + '.new', 'w');
    writeSync(fd, data);
    fsyncSync(fd);
    closeSync(fd);
    renameSync(upper + '/' + name + '.new', upper + '/' + name);
    const directory = openSync(upper, 'r');
    fsyncSync(directory);
    closeSync(directory);
    writeSync(journal, name + ' ' + i + ' ' + createHash('sha256').update(data).digest('hex') + '\\n');
    if (i % 50 === 49) renameSync(upper + '/busy', upper + '/old');
  }`;

describe.skipIf(!canMount)('a clone of a live workspace', () => {
  it('that nobody froze has all that a writer had synced, in a filesystem without a fault', async () => {
    const { file, at, upper } = await workspace();
    const journal = join(dir, 'journal');
    writeFileSync(journal, '');
    const writer = spawn(process.execPath, ['--input-type=module', '-e', WRITER, upper, journal], { stdio: 'inherit' });
    let checked = 0;
    try {
      while (readFileSync(journal).length === 0) await sleep(10);
      for (let round = 0; round < 5; round += 1) {
        await sleep(150);
        const { clone } = cloneNames({ file, at });
        const before = lastOf(readFileSync(journal, 'latin1'));
        expect(await cloneImage({ file, at, clone, freeze: false })).toMatchObject({
          method: 'reflink',
          bytesCopied: 0,
        });
        const after = allOf(readFileSync(journal, 'latin1'));
        await insideClone({ file, at, clone }, (seen) => {
          for (const [name, { turn }] of before) {
            const data = readFileSync(join(seen, name));
            // It may have been written again until the clone was made, and then it is one of those.
            const ever = after.get(name)!.filter((each) => each.turn >= turn);
            const isNext = data.length > 0 && data.every((byte) => byte === data[0]);
            expect(ever.some(({ digest }) => digest === sha256(data)) || isNext, `${name} of round ${round}`).toBe(
              true,
            );
            if (ever.length === 1 && !isNext) expect(sha256(data)).toBe(ever[0]!.digest);
            checked += 1;
          }
        });
        // After the mount, which replayed the log.
        execFileSync('xfs_repair', ['-n', '-f', clone], { stdio: 'pipe' });
        rmSync(clone);
      }
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
    expect(checked).toBeGreaterThan(100);
  });

  it('and its mount are removed where the process that made them was killed, and no other’s', async () => {
    const { file, at } = await workspace();
    const names = cloneNames({ file, at });
    await cloneImage({ file, at, clone: names.clone, freeze: false });
    mkdirSync(names.at);
    await mountClone({ clone: names.clone, at: names.at });
    const other = cloneNames({ file: `${file}.b`, at: `${at}.b` });
    writeFileSync(other.clone, '');
    await removeClones({ file, at });
    expect([names.at, names.clone, other.clone, file].map((path) => existsSync(path))).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect(loopDevicesOf(file)).toHaveLength(1);
  });

  it('is frozen where that is asked for', async () => {
    const { file, at, upper } = await workspace();
    writeFileSync(join(upper, 'a'), 'a');
    const { clone } = cloneNames({ file, at });
    expect(await cloneImage({ file, at, clone, freeze: true })).toMatchObject({ method: 'reflink' });
    writeFileSync(join(upper, 'b'), 'thawed');
    expect(await insideClone({ file, at, clone }, (seen) => readdirSync(seen))).toEqual(['a']);
  });
});

/** The last line of each name. */
function lastOf(journal: string): Map<string, { turn: number; digest: string }> {
  return new Map([...allOf(journal)].map(([name, all]) => [name, all.at(-1)!]));
}

function allOf(journal: string): Map<string, { turn: number; digest: string }[]> {
  const lines = new Map<string, { turn: number; digest: string }[]>();
  for (const line of journal.slice(0, journal.lastIndexOf('\n')).split('\n')) {
    const [name, turn, digest] = line.split(' ') as [string, string, string];
    lines.set(name, [...(lines.get(name) ?? []), { turn: Number(turn), digest }]);
  }
  return lines;
}

/** Appends number after number to one file of the first workspace, then of the second, then of the third, and so on. */
const ORDERED = `
  import { openSync, writeSync } from 'node:fs';
  const files = process.argv.slice(1).map((upper) => openSync(upper + '/count', 'w'));
  for (let i = 1; ; i += 1) for (const fd of files) writeSync(fd, String(i).padStart(12), 0);`;

describe.skipIf(!canMount)('clones of several workspaces together', () => {
  it('are of one moment: what was written after another thing is not there without it', async () => {
    const places = [await workspace(), await workspace(), await workspace(), await workspace(), await workspace()];
    const uppers = places.map(({ upper }) => upper);
    const writer = spawn(process.execPath, ['--input-type=module', '-e', ORDERED, ...uppers], { stdio: 'inherit' });
    try {
      while (!uppers.every((upper) => existsSync(join(upper, 'count')))) await sleep(10);
      const seen: number[] = [];
      for (let round = 0; round < 3; round += 1) {
        const members = places.map(({ file, at }) => ({ file, at, clone: cloneNames({ file, at }).clone }));
        let waited = false;
        const { pauseMilliseconds, clones } = await cloneTogether(members, {
          longestPause: 10_000,
          whenFrozen: async () => {
            await sleep(20);
            waited = true;
          },
        });
        expect(waited).toBe(true);
        expect(pauseMilliseconds).toBeGreaterThan(20);
        expect(clones.map(({ method }) => method)).toEqual(Array(5).fill('reflink'));
        const counts: number[] = [];
        for (const member of members)
          counts.push(await insideClone(member, (upper) => Number(readFileSync(join(upper, 'count'), 'latin1'))));
        for (let i = 1; i < counts.length; i += 1) {
          expect(counts[i - 1]! - counts[i]!, counts.join(' ')).toBeGreaterThanOrEqual(0);
          expect(counts[i - 1]! - counts[i]!, counts.join(' ')).toBeLessThanOrEqual(1);
        }
        seen.push(counts[0]!);
        for (const { clone } of members) rmSync(clone);
      }
      expect(new Set(seen).size).toBe(3);
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
  });

  it('are all there or none, and all thawed, where the others do not come in time', async () => {
    const places = [await workspace(), await workspace()];
    const members = places.map(({ file, at }) => ({ file, at, clone: cloneNames({ file, at }).clone }));
    // It does not even look at its signal.
    const whenFrozen = () => new Promise<void>(() => {});
    await expect(cloneTogether(members, { longestPause: 300, whenFrozen })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('thawed'),
    });
    for (const [i, { upper }] of places.entries()) {
      writeFileSync(join(upper, 'again'), 'not frozen');
      expect(existsSync(members[i]!.clone)).toBe(false);
    }
  });
});
