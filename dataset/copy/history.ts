import { readObject } from '../bucket/read-object.ts';
import type { Digest } from '../digest.ts';
import { NotFoundError } from '../errors.ts';
import { decodeVersion, VERSION_LIMIT, type Version } from '../format/version-json.ts';
import { versionKey } from '../keys.ts';
import type { Repository } from '../repository.ts';
import { readVersion } from '../version.ts';

/** A version that the target lacks. */
export interface MissingVersion {
  readonly version: Version;
  /** Its object as it is. */
  readonly object: Buffer;
  /** Why a parent of it stays out, if one does: it lies deeper than was asked for, or the source does not have it either. */
  readonly cut: 'depth' | 'absent' | undefined;
  /** A parent that the target has when this one's turn comes, if the source has it too. */
  readonly base: Version | undefined;
}

export interface HistoryPlan {
  /** Parents before what was made of them. */
  readonly missing: readonly MissingVersion[];
  /** Versions of the target that `missing` ones follow from. */
  readonly boundary: readonly Digest[];
  /** Versions that were cut off in the target and are not once `missing` is there. */
  readonly healed: readonly Digest[];
}

interface Met {
  readonly version: Version;
  /** Undefined where the target has it. */
  readonly object: Buffer | undefined;
  readonly generation: number;
}

/**
 * What of a version's history the target lacks. Versions are stored after their parents, except where a mark tells that a history was cut
 * (shallow.ts): so one that the target has, without such marks below it, ends the walk. What the target has given up by its own retention
 * is not brought back.
 * @param shallow versions of the target whose history was cut by a depth
 * @param depth generations that are wanted, the version's own among them; all if not said
 */
export async function planHistory(options: {
  readonly from: Repository;
  readonly to: Repository;
  readonly tip: Digest;
  readonly shallow: ReadonlySet<Digest>;
  readonly depth?: number;
  readonly signal?: AbortSignal;
}): Promise<HistoryPlan> {
  const { from, to, tip, shallow, depth = Number.POSITIVE_INFINITY, signal } = options;
  const met = new Map<Digest, Met>();
  const unmet = new Set(shallow);
  /** Not in the source. */
  const absent = new Set<Digest>();
  /** Versions at which the walk ended: whether the target has them. */
  const there = new Map<Digest, boolean>();
  const has = async (id: Digest) => {
    const known = met.get(id);
    if (known !== undefined) return known.object === undefined;
    let found = there.get(id);
    if (found === undefined) {
      found = (await to.bucket.head(versionKey(id), signal)) !== undefined;
      there.set(id, found);
    }
    return found;
  };

  let level = [tip];
  for (let generation = 1; level.length > 0 && generation <= depth; generation++) {
    const next: Digest[] = [];
    for (const id of level) {
      signal?.throwIfAborted();
      if (met.has(id)) continue;
      const present = await has(id);
      // What is below it is there too, unless there are marks that have not been met.
      if (present && unmet.size === 0) continue;
      const read = await readRaw(from, id, signal);
      if (read === undefined) {
        absent.add(id);
        if (id === tip) await readVersion(from, id, signal);
        continue;
      }
      unmet.delete(id);
      met.set(id, { version: read.version, object: present ? undefined : read.object, generation });
      next.push(...read.version.parents);
    }
    level = next;
  }

  const missing: MissingVersion[] = [];
  const boundary = new Set<Digest>();
  const done = new Set<Digest>();
  /** Whether the target has it once what stands in `missing` so far is there. */
  const willHave = async (id: Digest) => done.has(id) || (await has(id));
  const stack: { readonly id: Digest; ready: boolean }[] = [{ id: tip, ready: false }];
  const entered = new Set<Digest>();
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const found = met.get(top.id);
    if (found === undefined || done.has(top.id) || (!top.ready && entered.has(top.id))) {
      stack.pop();
      continue;
    }
    if (!top.ready) {
      top.ready = true;
      entered.add(top.id);
      for (const id of found.version.parents) if (!entered.has(id)) stack.push({ id, ready: false });
      continue;
    }
    stack.pop();
    done.add(top.id);
    if (found.object === undefined) continue;
    let cut: MissingVersion['cut'];
    let base: Version | undefined;
    for (const parent of found.version.parents) {
      if (!(await willHave(parent))) cut = absent.has(parent) ? (cut ?? 'absent') : 'depth';
      else {
        if (met.get(parent)?.object === undefined) boundary.add(parent);
        base ??= met.get(parent)?.version ?? (await readRaw(from, parent, signal))?.version;
      }
    }
    missing.push({ version: found.version, object: found.object, cut, base });
  }

  const healed: Digest[] = [];
  for (const id of shallow) {
    const found = met.get(id);
    if (found === undefined || found.object !== undefined) continue;
    const whole = await Promise.all(found.version.parents.map(willHave));
    if (whole.every(Boolean)) healed.push(id);
  }
  return { missing, boundary: [...boundary], healed };
}

/** Whether `ancestor` led to `version`, as far as the repository has its history. */
export async function isAncestor(
  repository: Repository,
  ancestor: Digest,
  version: Digest,
  signal?: AbortSignal,
): Promise<boolean> {
  const met = new Set([version]);
  const queue = [version];
  for (let id = queue.shift(); id !== undefined; id = queue.shift()) {
    signal?.throwIfAborted();
    if (id === ancestor) return true;
    const found = await readRaw(repository, id, signal);
    for (const parent of found?.version.parents ?? []) {
      if (parent === ancestor) return true;
      if (met.has(parent)) continue;
      met.add(parent);
      queue.push(parent);
    }
  }
  return false;
}

async function readRaw(
  { bucket }: Repository,
  id: Digest,
  signal: AbortSignal | undefined,
): Promise<{ readonly version: Version; readonly object: Buffer } | undefined> {
  try {
    const { bytes } = await readObject(bucket, versionKey(id), VERSION_LIMIT, { signal });
    return { version: decodeVersion(id, bytes), object: bytes };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
