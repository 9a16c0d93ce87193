/** A process that reads mounted versions without an end and compares every byte with what was imported. Told what to do by its parent. */
import { open, readdir, stat } from 'node:fs/promises';
import { createRandom, type Random } from '../support/random.ts';
import type { Mounted, ReaderOrder, ReaderReport } from './reader-protocol.ts';

const CONCURRENT = 3;
const PIECE = 256 * 1024;

const random = createRandom(Number(process.argv[2]));
const tell = (report: ReaderReport) => process.send!(report);

let mounts: readonly Mounted[] = [];
let paused = false;
const counted = { reads: 0, bytes: 0, longest: 0 };
const underway = new Map<number, { path: string; began: number }>();
let serial = 0;

process.on('message', (order: ReaderOrder) => {
  if ('mounts' in order) mounts = order.mounts;
  else if ('pause' in order) paused = order.pause;
  else void passOver(order.pass, order.of);
});
process.on('disconnect', () => process.exit(0));

setInterval(() => {
  const now = Date.now();
  const oldest = [...underway.values()].reduce<{ path: string; began: number } | undefined>(
    (found, one) => (found && found.began < one.began ? found : one),
    undefined,
  );
  tell({
    alive: { ...counted, idle: underway.size === 0 },
    ...(oldest && { oldest: { path: oldest.path, waits: now - oldest.began } }),
  });
}, 500);

for (let worker = 0; worker < CONCURRENT; worker += 1) void readOn();

async function readOn(): Promise<never> {
  for (;;) {
    const mount = paused || mounts.length === 0 ? undefined : random.pick(mounts);
    if (mount === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
    else await attempt(mount, random.pick(mount.files), random);
  }
}

/** Every file of a mount once, whole. */
async function passOver(number: number, mount: Mounted): Promise<void> {
  const failures: string[] = [];
  for (const file of mount.files) {
    const failure = await look(mount, file, undefined);
    if (failure) failures.push(`${file}: ${failure.text}`);
  }
  const names = await readdir(mount.directory, { recursive: true, withFileTypes: true });
  const found = names.filter((entry) => entry.isFile()).length;
  if (found !== mount.files.length) failures.push(`${found} files are listed, of ${mount.files.length}`);
  tell({ passed: number, failures });
}

async function attempt(mount: Mounted, file: string, choices: Random): Promise<void> {
  const began = Date.now();
  const failure = await look(mount, file, choices);
  // Unmounted meanwhile: then anything may be there.
  if (!failure || !mounts.includes(mount)) return;
  tell({ failed: { directory: mount.directory, file, began, ended: Date.now(), ...failure } });
}

/** Reads a file, or a part of it. @returns what was wrong */
async function look(mount: Mounted, file: string, choices: Random | undefined) {
  const path = `${mount.directory}/${file}`;
  const number = serial++;
  const began = Date.now();
  underway.set(number, { path, began });
  try {
    const wanted = await stat(`${mount.source}/${file}`);
    const { size } = await stat(path);
    if (size !== wanted.size) return { wrong: true, text: `its size is ${size}, not ${wanted.size}` };
    await using ours = await open(path);
    await using theirs = await open(`${mount.source}/${file}`);
    let from = 0;
    let to = size;
    if (choices?.oneIn(3)) {
      from = choices.below(size + 1);
      to = Math.min(size, from + choices.below(128 * 1024));
    }
    for (let at = from; at < to; ) {
      const length = Math.min(PIECE, to - at);
      const [mine, right] = await Promise.all([
        ours.read(Buffer.alloc(length), 0, length, at),
        theirs.read(Buffer.alloc(length), 0, length, at),
      ]);
      const bytes = right.buffer.subarray(0, right.bytesRead);
      if (mine.bytesRead === 0) return { wrong: true, text: `it ends at ${at} of ${size}` };
      if (!mine.buffer.subarray(0, mine.bytesRead).equals(bytes.subarray(0, mine.bytesRead)))
        return { wrong: true, text: `wrong bytes from ${at} on, ${mine.bytesRead} of them` };
      at += mine.bytesRead;
      counted.bytes += mine.bytesRead;
    }
    counted.reads += 1;
    return undefined;
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    return { wrong: false, code, text: `${code ?? error} in ${syscall}` };
  } finally {
    underway.delete(number);
    counted.longest = Math.max(counted.longest, Date.now() - began);
  }
}
