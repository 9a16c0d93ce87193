import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { layoutOf } from '../../cache/layout.ts';
import { type BuiltVersion, buildVersion, type FileOf, temporaryRepository } from '../../cache/staged.fixture.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';

const child = join(import.meta.dirname, 'hydrator-child.ts');
const KILLS = killRounds(20);
/** Two daemons at a time, each with its own cache. */
const LANES = 2;

function hydrate(...args: string[]) {
  const running = spawn(process.execPath, [child, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaint = '';
  running.stderr.on('data', (data) => {
    complaint += data;
  });
  const ended = new Promise<number | null>((resolve) => running.once('exit', resolve));
  const begun = new Promise<void>((resolve, reject) => {
    running.stdout.once('data', () => resolve());
    ended.then((code) => reject(new Error(`the hydrator ended by itself with ${code}: ${complaint}`)));
  });
  begun.catch(() => {});
  return { kill: () => running.kill('SIGKILL'), begun, ended, complaint: () => complaint };
}

/** Fails where a file below objects/ or late/ is not what its name says. @returns how many objects there are */
function checkObjects(directory: string, { files }: BuiltVersion): number {
  const bytesOf = new Map([...files.values()].map(({ id, bytes }) => [id as string, bytes]));
  const layout = layoutOf(directory);
  let objects = 0;
  for (const folder of [layout.objects, layout.late]) {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const bytes = readFileSync(join(entry.parentPath, entry.name));
      expect(bytesOf.get(entry.name)?.equals(bytes), `${entry.name} with ${bytes.length} bytes`).toBe(true);
      if (folder === layout.objects) objects += 1;
    }
  }
  return objects;
}

it('shows no short or wrong object, however often and whenever it is killed, and the next run finishes', async () => {
  await using temporary = await temporaryRepository();
  const { repository, folder } = temporary;
  const files: Record<string, FileOf> = {};
  for (let at = 0; at < 120; at += 1) files[`small-${at}`] = randomBytes(500 + Math.floor(Math.random() * 60_000));
  for (let at = 0; at < 3; at += 1) {
    files[`large-${at}`] = [randomBytes(400_000), 700_000, ...Array.from({ length: 6 }, () => randomBytes(300_000))];
  }
  const version = await buildVersion(repository, files, { target: 800_000 });
  const [placing, time] = [spreadMoments(), spreadMoments()];
  const lane = async (directory: string): Promise<number[]> => {
    const seen: number[] = [];
    for (let kill = 0; kill < KILLS / LANES; kill += 1) {
      // By turns when so many objects are in place, more than there are among them, and whenever it may be.
      const counted = kill % 2 === 0;
      const many = counted ? [String(1 + Math.floor(placing() * version.files.size * 1.5))] : [];
      const run = hydrate(repository.location, version.staged.root, directory, ...many);
      if (!counted) {
        await run.begun;
        await sleep(time() * 150);
        run.kill();
      }
      expect(await run.ended, run.complaint()).toBe(null);
      seen.push(checkObjects(directory, version));
    }
    const last = hydrate(repository.location, version.staged.root, directory, 'once');
    expect(await last.ended, last.complaint()).toBe(0);
    expect(checkObjects(directory, version)).toBe(version.files.size);
    expect(readdirSync(layoutOf(directory).incoming)).toEqual([]);
    expect(readdirSync(layoutOf(directory).journal)).toEqual([]);
    return seen;
  };
  const seen = (await Promise.all(Array.from({ length: LANES }, (_, at) => lane(join(folder, `cache-${at}`))))).flat();
  // The kills fell where they should: many of them when some objects were there and others not.
  expect(seen.filter((count) => count > 0 && count < version.files.size).length).toBeGreaterThan(KILLS / 10);
}, 600_000);
