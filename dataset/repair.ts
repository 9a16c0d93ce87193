import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openChunkIndex } from './chunk-index.ts';
import { markSweeps } from './collect/guard.ts';
import type { Digest } from './digest.ts';
import { UnavailableError } from './errors.ts';
import { packKey } from './keys.ts';
import type { ChunkSource } from './repair/chunk-source.ts';
import { type HealedTotals, LeafHealer } from './repair/heal-leaves.ts';
import { restoreObject } from './repair/restore-objects.ts';
import type { Repository } from './repository.ts';
import { PackList } from './verify/pack-list.ts';
import type { PackFaults } from './verify/read-packs.ts';
import { checkStructure } from './verify/structure.ts';
import { type Damage, forgetDamaged, readDeep, VerifyReport } from './verify.ts';

export { type ChunkSource, repositorySource, type WantedChunk } from './repair/chunk-source.ts';

export interface RepairOptions {
  readonly repository: Repository;
  /** Who may have what is lost, asked in this order. Without any, only what lies elsewhere in the repository is put right. */
  readonly sources: readonly ChunkSource[];
  /** Only what these lead to, `NAME[@REF]`; all names, if not said. */
  readonly names?: readonly string[];
  readonly onProgress?: (progress: RepairProgress) => void;
  readonly signal?: AbortSignal;
}

export interface RepairProgress {
  readonly phase: string;
  /** Entries checked. */
  readonly files: number;
  /** Bytes of packs read. */
  readonly bytes: number;
  readonly totalBytes?: number;
}

export interface RepairResult {
  /** Damaged or missing objects before. */
  readonly found: number;
  /** Versions, segments, branches and tags that were put back, by their keys. */
  readonly restored: readonly string[];
  readonly healed: Readonly<HealedTotals>;
  /** Damaged packs that nothing needs any more, and that were removed. */
  readonly removed: readonly Digest[];
  /** What is still damaged or missing. */
  readonly remaining: readonly Damage[];
}

/**
 * Mends what `verifyRepository` finds when it reads deep. Versions, segments and names come back from another repository as they were. Chunks are
 * taken from another place of the repository, from their damaged pack where they are whole in it, or from a source; they are stored in new packs,
 * and the locations of the leaves that need them are written anew. A damaged pack is replaced, or removed once nothing that has a name needs it: not
 * where only some names are repaired.
 *
 * Every byte is verified before it is stored. May be stopped at any moment, and run again.
 */
export async function repairRepository(options: RepairOptions): Promise<RepairResult> {
  const { repository, sources, names, onProgress, signal } = options;
  await refuseSweep(repository, signal);
  const packs = await PackList.read(repository, signal);
  const report = new VerifyReport(onProgress, packs.bytes);
  const faults = await readDeep(repository, packs, report, { names, signal });
  forgetDamaged(repository, faults);
  const common = { packs, faults, names, onEntries: (count: number) => report.entries(count), signal };

  const restored: string[] = [];
  const before = new Set<string>();
  // What is below a segment shows only when that is back.
  for (let more = true; more; ) {
    more = false;
    for (const { object } of await checkStructure(repository, common)) {
      before.add(object);
      if (!(await restoreObject(repository, sources, object, signal))) continue;
      restored.push(object);
      more = true;
    }
  }
  for (const pack of [...faults.packs.keys(), ...faults.chunks.keys()])
    if (names === undefined) before.add(packKey(pack));

  const { totals: healed, written } = await healLeaves(options, common);
  const left: PackFaults = {
    packs: without(faults.packs, written),
    chunks: without(faults.chunks, written),
    wasRead: faults.wasRead,
  };
  const damaged = new Set([...left.packs.keys(), ...left.chunks.keys()]);
  const after = await PackList.read(repository, signal);
  /** Damaged packs that are still needed. */
  const needed = new Set<Digest>();
  const onPack = (pack: Digest) => {
    if (damaged.has(pack)) needed.add(pack);
  };
  const remaining = await checkStructure(repository, {
    ...common,
    packs: after,
    faults: left,
    sources: true,
    onPack,
  });
  await refuseSweep(repository, signal);
  const removed: Digest[] = [];
  if (names === undefined)
    for (const pack of damaged) {
      if (needed.has(pack)) continue;
      await repository.bucket.delete(packKey(pack), { signal });
      removed.push(pack);
    }
  return { found: before.size, restored, healed, removed, remaining: [...remaining] };
}

async function healLeaves(
  { repository, sources }: RepairOptions,
  common: Omit<Parameters<typeof checkStructure>[1], 'onBroken'>,
): Promise<LeafHealer> {
  const { packs, faults, signal } = common;
  await using stack = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), 'larder-repair-'));
  stack.defer(() => rm(scratch, { recursive: true, force: true }));
  const index = stack.use(openChunkIndex(repository));
  const healer = new LeafHealer({ repository, packs, faults, sources, index, scratch, signal });
  stack.defer(() => healer.close());
  await checkStructure(repository, { ...common, onBroken: (leaf) => healer.add(leaf) });
  await healer.flush();
  return healer;
}

function without<T>(found: ReadonlyMap<Digest, T>, gone: ReadonlySet<Digest>): ReadonlyMap<Digest, T> {
  return new Map([...found].filter(([pack]) => !gone.has(pack)));
}

/** A collection that deletes has decided before what nothing needs: what a repair makes use of might be among it. */
async function refuseSweep(repository: Repository, signal: AbortSignal | undefined): Promise<void> {
  const { phase } = await markSweeps(repository, signal);
  if (phase !== 'sweeping') return;
  throw new UnavailableError(
    `a collection of ${repository.location} is deleting: let 'larder collect' come to its end, then run the repair again`,
    { facts: { repository: repository.location } },
  );
}
