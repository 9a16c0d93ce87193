import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { createVolume, deleteVolume, listVolumes } from '../../controller/volumes.ts';
import { bufferOf, textOf } from '../../dataset/byte-string.ts';
import { isCollected } from '../../dataset/collect/guard.ts';
import { readState } from '../../dataset/collect/state.ts';
import { collect } from '../../dataset/collect.ts';
import { LarderError } from '../../dataset/errors.ts';
import { noise, randomizer } from '../../dataset/import/test-tree.ts';
import { importDirectory } from '../../dataset/import.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readFile } from '../../dataset/read-file.ts';
import {
  deleteBranch,
  deleteTag,
  listBranches,
  listTags,
  moveBranch,
  readBranch,
  writeTag,
} from '../../dataset/refs.ts';
import { openRepository, type Repository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';

/*
 * For tests: one who uses a repository, in a process of its own: `collector`, `writer`, `namer`, `reader` or `mounter`. Does what that does at random, for
 * a while. Prints what it did in one line; fails where anything failed that may not.
 */
const [kind, location, sources, own, seed, milliseconds] = process.argv.slice(2) as string[];
const DATASET = 'birds';
const random = randomizer(Number(seed) * 7919 + 1);
const pick = <T>(values: readonly T[]): T => values[random(values.length)]!;
const end = Date.now() + Number(milliseconds);
const repository = await openRepository(location!);
const counts: Record<string, number> = {};
const count = (what: string, by = 1) => {
  counts[what] = (counts[what] ?? 0) + by;
};

async function tolerant(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (isCollected(error)) count('told to store again');
    else if (error instanceof LarderError && (error.kind === 'conflict' || error.kind === 'not-found'))
      count(error.kind);
    else throw error;
  }
}

const branches = () => listBranches(repository, DATASET);
const newName = () => `b${random(12)}`;

/** Imports trees that others imported and deleted, and changes of its own on top. */
async function write(): Promise<void> {
  const branch = newName();
  const own = random(3) === 0;
  if (own) {
    fs.writeFileSync(join(mine, `f${random(20)}`), noise(1_000 + random(20_000), random(1_000_000) + 1));
    if (random(4) === 0) fs.writeFileSync(join(mine, 'large'), noise(2_500_000, random(3) + 1));
  }
  const source = own ? mine : join(sources!, pick(fs.readdirSync(sources!)));
  const common = { repository, source, dataset: DATASET, branch, message: '', author: 'a test' };
  const { outcome } = await importDirectory(common);
  count(outcome);
}

/** Makes and removes names and volumes. */
async function name(): Promise<void> {
  // As many names are made as are removed: else there is soon nothing left to lose.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const all = await branches();
  const act = random(10);
  if (act < 4 && all.length > 0) {
    await deleteBranch(repository, DATASET, pick(all).name);
    count('branches deleted');
  } else if (act < 6 && all.length > 0) {
    await moveBranch(repository, DATASET, newName(), { expect: 'absent', version: pick(all).version });
    count('clones');
  } else if (act < 7 && all.length > 0) {
    await writeTag(repository, DATASET, `t${random(4)}`, { version: pick(all).version });
    count('tags');
  } else if (act < 8) {
    for (const tag of await listTags(repository, DATASET))
      if (random(2) === 0) await deleteTag(repository, DATASET, tag.name);
  } else if (act < 9 && all.length > 0) {
    const source = { dataset: DATASET, ref: pick(all).name };
    await createVolume(repository, { name: `pvc-${random(3)}`, kind: 'pinned', source, capacity: {} });
    count('volumes');
  } else {
    const { volumes } = await listVolumes(repository);
    if (volumes.length > 0) await deleteVolume(repository, pick(volumes).id);
  }
}

/** Reads a whole version, which must succeed if its branch still leads to it afterwards. */
async function read(): Promise<void> {
  const ref = pick(await branches());
  if (ref === undefined) return;
  try {
    const { root } = await readVersion(repository, ref.version);
    for await (const entries of readEntries(repository, root))
      for (const entry of entries)
        if (entry.type === 'file')
          for await (const bytes of readFile(repository, entry, { root })) count('bytes read', bytes.length);
    count('versions read');
  } catch (error) {
    const now = await readBranch(repository, DATASET, ref.name);
    if (now?.version === ref.version && (await isSteady(repository, ref.name, ref.version))) throw error;
    count('reads of what was deleted');
  }
}

/** A branch may have been deleted and made again for the same version since. */
async function isSteady(repository: Repository, name: string, version: string): Promise<boolean> {
  const { root } = await readVersion(repository, version as never);
  for await (const entries of readEntries(repository, root))
    for (const entry of entries)
      if (entry.type === 'file') for await (const _ of readFile(repository, entry, { root }));
  console.error(`${name} could be read the second time`);
  return false;
}

const program = join(import.meta.dirname, '..', '..', 'bin', 'larder');

function larder(...args: readonly string[]): { readonly status: number | null; readonly stdout: string } {
  const env = {
    ...process.env,
    LARDER_REPOSITORY: location,
    LARDER_CACHE: join(own!, 'cache'),
    LARDER_RUNTIME: join(own!, 'run'),
  };
  const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8' });
  // What was deleted in between is not there; everything else must go well.
  if (status !== 0 && status !== 3) throw new Error(`larder ${args.join(' ')} ended with ${status}: ${stderr}`);
  return { status, stdout };
}

/** Mounts what a volume pins, and reads all of it through the kernel, with nothing cached: whatever is deleted meanwhile, it is there. */
async function mount(): Promise<void> {
  const ref = pick(await branches());
  if (ref === undefined) return;
  const target = join(own!, 'mounted');
  const source = { dataset: DATASET, ref: ref.name };
  const volume = await createVolume(repository, { name: 'pvc-mounter', kind: 'pinned', source, capacity: {} });
  try {
    await writeTag(repository, DATASET, 'mounted', { version: volume.version, force: true });
    if (larder('mount', `${DATASET}@mounted`, target).status !== 0) return;
    const { root } = await readVersion(repository, volume.version);
    for await (const entries of readEntries(repository, root))
      for (const entry of entries) {
        if (entry.type !== 'file') continue;
        const bytes = fs.readFileSync(Buffer.concat([Buffer.from(`${target}/`), bufferOf(entry.path)]));
        let at = 0;
        for await (const block of readFile(repository, entry, { root })) {
          if (!bytes.subarray(at, at + block.length).equals(block))
            throw new Error(`${textOf(entry.path)} reads wrong`);
          at += block.length;
        }
        count('bytes read through a mount', bytes.length);
      }
    count('mounts read');
  } finally {
    larder('unmount', target);
    larder('cache', 'evict');
    await deleteVolume(repository, volume.id);
  }
}

function endDaemon(): void {
  const { status, stdout } = larder('status', '--json');
  if (status !== 0) return;
  const { pid, keeperPid } = JSON.parse(stdout) as { pid: number; keeperPid?: number };
  for (const each of [pid, keeperPid]) if (each !== undefined) process.kill(each, 'SIGTERM');
}

async function sweepOnce(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 300));
  const { swept, plan } = await collect({ repository, grace: 1_000, timing: { lease: 60_000 } });
  if (swept !== undefined) {
    count('sweeps');
    for (const { objects } of Object.values(swept.deleted)) count('deleted', objects);
    for (const { objects } of Object.values(swept.reprieved)) count('reprieved', objects);
  }
  if (plan?.repack.done) count('packs written anew', plan.repack.packs);
}

const mine = join(own!, 'mine');
fs.mkdirSync(mine, { recursive: true });
fs.writeFileSync(join(mine, 'f'), 'mine');
const acts = { collector: sweepOnce, writer: write, namer: name, reader: read, mounter: mount };
const isOver = async () => Date.now() >= end && (kind !== 'collector' || (await readState(repository)).turn > 0);
// Collectors go on until one of them has deleted something, or all of this shows nothing.
try {
  while (!(await isOver())) await tolerant(acts[kind as keyof typeof acts]);
} finally {
  if (kind === 'mounter') endDaemon();
}
await repository.bucket.close();
console.log(JSON.stringify({ kind, ...counts }));
