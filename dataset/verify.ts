import { openChunkIndex } from './chunk-index.ts';
import type { Digest } from './digest.ts';
import { packKey } from './keys.ts';
import type { Repository } from './repository.ts';
import type { Damage } from './verify/damage.ts';
import { PackList } from './verify/pack-list.ts';
import { NOTHING_READ, type PackFaults, readPacks } from './verify/read-packs.ts';
import { checkStructure } from './verify/structure.ts';

export { AFFECTED_LIMIT, type Affected, type Damage, describeDamage } from './verify/damage.ts';

export interface VerifyOptions {
  /** Read every byte of every pack back, and ask for every object in place whether it is the same. */
  readonly deep?: boolean;
  /** Only what these lead to, `NAME[@REF]`; all names, if not said. */
  readonly names?: readonly string[];
  readonly onProgress?: (progress: VerifyProgress) => void;
  readonly signal?: AbortSignal;
}

export interface VerifyProgress {
  readonly phase: string;
  /** Entries checked. */
  readonly files: number;
  /** Bytes of packs read. */
  readonly bytes: number;
  readonly totalBytes?: number;
}

/**
 * Checks all that branches, tags, volumes and snapshots lead to: versions, segments, locations, and that every chunk's pack is there, has its
 * length, and has the chunk where the locations say. With `deep`, every chunk of every pack is read and its digest checked; packs that are
 * damaged are forgotten by this machine's index of chunks, so that what is imported again is stored again. Gives what is damaged or missing;
 * nothing where all is well. A parent that a version was left without on purpose is not missed (shallow.ts).
 */
export async function* verifyRepository(repository: Repository, options: VerifyOptions = {}): AsyncGenerator<Damage> {
  const { deep, names, onProgress, signal } = options;
  const packs = await PackList.read(repository, signal);
  const progress = new VerifyReport(onProgress, deep === true ? packs.bytes : undefined);
  const faults = deep ? await readDeep(repository, packs, progress, { names, signal }) : NOTHING_READ;
  forgetDamaged(repository, faults);
  const damage = await checkStructure(repository, {
    packs,
    faults,
    names,
    sources: deep,
    onEntries: (count) => progress.entries(count),
    signal,
  });
  if (names === undefined) noteUnneeded(damage, faults);
  yield* damage;
}

/** Reads packs back: all of them, or those that some names lead to. */
export async function readDeep(
  repository: Repository,
  packs: PackList,
  progress: VerifyReport,
  options: { readonly names?: readonly string[]; readonly signal?: AbortSignal },
): Promise<PackFaults> {
  const { names, signal } = options;
  const named = new Set<Digest>();
  if (names !== undefined) {
    const onPack = (pack: Digest) => {
      if (packs.has(pack)) named.add(pack);
    };
    await checkStructure(repository, { packs, faults: NOTHING_READ, names, onPack, signal });
    let bytes = 0;
    for (const pack of named) bytes += packs.bytesOf(pack)!;
    progress.totalBytes = bytes;
  }
  const wanted = names === undefined ? packs : named;
  return await readPacks(repository, wanted, {
    wasRead: (pack) => wanted.has(pack),
    onPack: (pack) => progress.pack(packs.bytesOf(pack)!),
    signal,
  });
}

/** Chunks of damaged packs count as unknown on this machine, so that an import stores them again. */
export function forgetDamaged(repository: Repository, { packs, chunks }: PackFaults): void {
  if (packs.size + chunks.size === 0) return;
  using index = openChunkIndex(repository);
  index.forgetPacks([...packs.keys(), ...chunks.keys()]);
}

/** What is damaged in packs and was not met by any name. */
function noteUnneeded(
  damage: { has(object: string): boolean; note(object: string, kind: 'damaged', fault: string): void },
  { packs, chunks }: PackFaults,
): void {
  for (const [pack, fault] of packs) if (!damage.has(packKey(pack))) damage.note(packKey(pack), 'damaged', fault);
  for (const [pack, bad] of chunks) {
    if (damage.has(packKey(pack))) continue;
    const [first] = bad;
    if (first !== undefined) damage.note(packKey(pack), 'damaged', `chunk ${first[0]}: ${first[1]}`);
  }
}

/** Adds up how far verifying is. */
export class VerifyReport {
  totalBytes: number | undefined;
  readonly #onProgress: VerifyOptions['onProgress'];
  #files = 0;
  #bytes = 0;

  constructor(onProgress: VerifyOptions['onProgress'], totalBytes: number | undefined) {
    this.#onProgress = onProgress;
    this.totalBytes = totalBytes;
  }

  entries(count: number): void {
    this.#files += count;
    this.#report('checking');
  }

  pack(bytes: number): void {
    this.#bytes += bytes;
    this.#report('reading packs');
  }

  #report(phase: string): void {
    const { totalBytes } = this;
    this.#onProgress?.({
      phase,
      files: this.#files,
      bytes: this.#bytes,
      ...(totalBytes !== undefined && { totalBytes }),
    });
  }
}
