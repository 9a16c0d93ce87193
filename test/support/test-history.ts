import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import type { Digest } from '../../dataset/digest.ts';
import { noise, randomizer } from '../../dataset/import/test-tree.ts';
import { importDirectory } from '../../dataset/import.ts';
import { listBranches, listTags } from '../../dataset/refs.ts';
import type { Repository } from '../../dataset/repository.ts';
import { type Damage, verifyRepository } from '../../dataset/verify.ts';
import { collect } from './collect.ts';

/** For tests: a directory that changes, and is imported as one version after another. */
export class TestHistory {
  readonly directory: string;
  readonly #random: (below: number) => number;
  #seed: number;

  /** @param files none for a directory that is there */
  constructor(directory: string, seed: number, files = 80) {
    this.directory = directory;
    this.#random = randomizer(seed);
    this.#seed = seed * 100_000;
    if (files === 0) return;
    for (let i = 0; i < files; i++) this.write(`d${i % 7}/f${i}`, this.#random(12_000));
    this.write('large', 3 << 20);
  }

  /** The same as it is, to be changed apart. */
  copy(directory: string): TestHistory {
    cpSync(this.directory, directory, { recursive: true, preserveTimestamps: true });
    return new TestHistory(directory, this.#seed, 0);
  }

  write(name: string, size: number): void {
    mkdirSync(join(this.directory, name, '..'), { recursive: true });
    writeFileSync(join(this.directory, name), noise(size, ++this.#seed));
  }

  /** Some files are written, some removed. */
  change(): void {
    const random = this.#random;
    for (let i = 0; i < 8; i++) {
      const name = `d${random(9)}/f${random(100)}`;
      if (random(4) === 0) rmSync(join(this.directory, name), { force: true });
      else this.write(name, random(15_000));
    }
    if (random(5) === 0) this.write('large', 2 << 20);
  }

  async import(repository: Repository, dataset: string, branch = 'main', tag?: string): Promise<Digest> {
    const { directory: source } = this;
    const imported = await importDirectory({ repository, source, dataset, branch, tag, message: 'm', author: 'a' });
    return imported.version.id;
  }
}

export async function deepDamage(repository: Repository): Promise<Damage[]> {
  return await collect(verifyRepository(repository, { deep: true }));
}

/** `branch main <version>`, `tag v1 <version>`, in order. */
export async function namesIn(repository: Repository, dataset: string): Promise<string[]> {
  const branches = (await listBranches(repository, dataset)).map(({ name, version }) => `branch ${name} ${version}`);
  const tags = (await listTags(repository, dataset)).map(({ name, version }) => `tag ${name} ${version}`);
  return [...branches, ...tags];
}

/** Requests of a bucket by kind, and the bytes put into it. */
export interface Counted {
  readonly bucket: Bucket;
  readonly counts: { get: number; head: number; put: number; list: number; delete: number; bytes: number };
}

export function counted(inner: Bucket): Counted {
  const counts = { get: 0, head: 0, put: 0, list: 0, delete: 0, bytes: 0 };
  const bucket: Bucket = {
    name: inner.name,
    get: (key, options) => {
      counts.get += 1;
      return inner.get(key, options);
    },
    head: (key, signal) => {
      counts.head += 1;
      return inner.head(key, signal);
    },
    put: (key, body, options) => {
      counts.put += 1;
      for (const part of body instanceof Uint8Array ? [body] : body) counts.bytes += part.length;
      return inner.put(key, body, options);
    },
    list: (prefix, options) => {
      counts.list += 1;
      return inner.list(prefix, options);
    },
    delete: (key, options) => {
      counts.delete += 1;
      return inner.delete(key, options);
    },
    close: () => inner.close(),
  };
  return { bucket, counts };
}
