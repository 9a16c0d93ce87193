import { type Digest, sha256 } from '../dataset/digest.ts';
import { ConflictError } from '../dataset/errors.ts';
import { escapeName, nameFault } from '../dataset/names.ts';
import { moveBranch, readBranch, readTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';

/** What a part of a branch's name may have, in bytes of its escaped form: two parts, a prefix and numbers fit in a name. */
const PART_LIMIT = 80;
/** Numbers that are tried for a name that has other content. */
const NUMBERS = 1000;

/** Where the content of a volume stays that is deleted. */
export function keptBranch(volume: string): string {
  return `volumes/${partOf(volume)}`;
}

/** Where changes stay that a node had to a volume that was no longer its own. */
export function asideBranch(volume: string, node: string, generation: number): string {
  return `aside/${partOf(volume)}/${partOf(node)}-${generation}`;
}

/**
 * Makes a branch for a version that is stored, or finds the one that was made for it. Where the name has another version, or is a tag's,
 * the first free number is put behind it.
 * @returns the branch's name
 */
export async function makeBranch(
  repository: Repository,
  dataset: string,
  branch: string,
  version: Digest,
): Promise<string> {
  for (let number = 1; number <= NUMBERS; number++) {
    const name = number === 1 ? branch : `${branch}-${number}`;
    try {
      if (await isTaken(repository, dataset, name, version)) continue;
    } catch (error) {
      // Made by somebody else between the look and the move: that one counts.
      if (!(error instanceof ConflictError)) throw error;
      if ((await readBranch(repository, dataset, name))?.version !== version) continue;
    }
    return name;
  }
  throw new ConflictError(
    `dataset '${dataset}' has ${NUMBERS} branches whose names begin with '${branch}': delete some with 'larder branch delete'`,
    { facts: { dataset, branch } },
  );
}

/** Whether the name has something else. If not, it has the version when this is over. */
async function isTaken(repository: Repository, dataset: string, name: string, version: Digest): Promise<boolean> {
  const there = await readBranch(repository, dataset, name);
  if (there !== undefined) return there.version !== version;
  if ((await readTag(repository, dataset, name)) !== undefined) return true;
  await moveBranch(repository, dataset, name, { expect: 'absent', version });
  return false;
}

/** A name as a part of a branch's: as it is where that can be, else what can be of it, and what tells it from others like it. */
function partOf(name: string): string {
  const fits = (part: string) => nameFault('dataset', part) === undefined && !part.includes('/');
  if (fits(name) && escapeName(name).length <= PART_LIMIT) return name;
  const plain = name.replace(/[^A-Za-z0-9_.-]/g, '-').replace(/^[.-]+/, '');
  return `${plain.slice(0, PART_LIMIT - 13)}${plain === '' ? 'x' : '-'}${sha256(name).slice(0, 12)}`;
}
