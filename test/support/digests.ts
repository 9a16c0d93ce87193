import { hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { textOf } from '../../dataset/byte-string.ts';
import type { Digest } from '../../dataset/digest.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readFile } from '../../dataset/read-file.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';

/** The SHA-256 of each file of a tree, by its path. */
export type TreeDigests = Readonly<Record<string, string>>;

/** Of a directory; nothing waits in it for the process that reads. */
export async function digestsOfDirectory(directory: string): Promise<TreeDigests> {
  const found = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const digests: Record<string, string> = {};
  for (const path of paths) digests[path.slice(directory.length + 1)] = await digestOf(createReadStream(path));
  return digests;
}

/** Of a version, as the repository has it. */
export async function digestsOfVersion(repository: Repository, version: Digest): Promise<TreeDigests> {
  const { root } = await readVersion(repository, version);
  const digests: [string, string][] = [];
  for await (const entries of readEntries(repository, root)) {
    for (const entry of entries) {
      if (entry.type === 'file')
        digests.push([textOf(entry.path), await digestOf(readFile(repository, entry, { root }))]);
    }
  }
  return Object.fromEntries(digests.sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function digestOf(parts: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = [];
  for await (const part of parts) all.push(part);
  return hash('sha256', Buffer.concat(all));
}
