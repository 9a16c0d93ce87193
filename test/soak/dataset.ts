import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRandom, type Random } from '../support/random.ts';
import { randomBytes } from './random-bytes.ts';

/** A version of the soak's dataset: the directory that it was imported from. */
export interface SoakVersion {
  /** Its tag. */
  readonly tag: string;
  readonly source: string;
  readonly files: readonly string[];
  /** Content ids that no other version has, of files of one chunk. */
  readonly alone: readonly string[];
}

const SMALL = 400;
const LARGE = 4;

/** Three versions with most files in common; small files, and some that are read on demand. */
export function writeVersions(directory: string, seed: number): SoakVersion[] {
  const random = createRandom(seed);
  const tags = ['v1', 'v2', 'v3'];
  const versions: { tag: string; source: string; files: Map<string, string> }[] = [];
  for (const tag of tags) {
    const before = versions.at(-1);
    const source = join(directory, tag);
    const files = new Map(before?.files);
    if (before) cpSync(before.source, source, { recursive: true });
    const write = (file: string, size: number) => {
      const bytes = randomBytes(random.below(2 ** 32), size);
      mkdirSync(dirname(join(source, file)), { recursive: true });
      writeFileSync(join(source, file), bytes);
      files.set(file, createHash('sha256').update(bytes).digest('hex'));
    };
    if (!before) {
      for (let at = 0; at < SMALL; at += 1) write(`train/d${at % 20}/f${at}.bin`, smallSize(random));
      for (let at = 0; at < LARGE; at += 1)
        write(`shards/s${at}.tar`, (5 + random.below(10)) * 2 ** 20 + random.below(4096));
    } else {
      const names = [...files.keys()];
      for (let at = 0; at < 60; at += 1)
        write(random.pick(names.filter((name) => name.startsWith('train'))), smallSize(random));
      write(`shards/${tag}.tar`, 8 * 2 ** 20 + random.below(4096));
      const gone = random.pick(names.filter((name) => name.startsWith('train')));
      rmSync(join(source, gone));
      files.delete(gone);
    }
    versions.push({ tag, source, files });
  }
  return versions.map(({ tag, source, files }) => ({
    tag,
    source,
    files: [...files.keys()],
    alone: [...files]
      .filter(
        ([name, id]) =>
          name.startsWith('train') && !versions.some((other) => other.tag !== tag && has(other.files, id)),
      )
      .filter(([name]) => readFileSync(join(source, name)).length > 4096)
      .map(([, id]) => id),
  }));
}

function has(files: ReadonlyMap<string, string>, id: string): boolean {
  return files.values().some((one) => one === id);
}

/** Some are inline in the manifest. */
function smallSize(random: Random): number {
  return random.oneIn(20) ? random.below(256) : 1000 + random.below(180_000);
}
