import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { readObject } from '../../dataset/bucket/read-object.ts';
import type { Repository } from '../../dataset/repository.ts';
import { collect } from './collect.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from './s3-server.ts';

/** Where a repository's objects are, for suites that run on each. */
export type RepositoryKind = 'directory' | 'S3';

/**
 * Runs a suite on every kind of repository. `make` gives the location of an empty place each time; what it made is gone when the
 * suite is over.
 */
export function describeRepositories(
  title: string,
  suite: (make: () => Promise<string>, kind: RepositoryKind) => void,
): void {
  describe(`${title} (directory)`, () => {
    let top: string;
    let made = 0;
    beforeAll(() => {
      top = mkdtempSync(join(tmpdir(), 'larder-repositories-'));
    });
    afterAll(() => rmSync(top, { recursive: true, force: true }));
    suite(async () => join(top, `repository-${made++}`), 'directory');
  });
  describe.skipIf(!hasS3Server)(`${title} (S3)`, () => {
    let server: S3Server;
    let made = 0;
    beforeAll(async () => {
      server = await startS3Server();
    }, S3_SERVER_TIMEOUT);
    afterAll(() => server?.close());
    suite(() => server.location(`some/repository-${made++}`), 'S3');
  });
}

/** The largest object of those whose keys start with `prefix`. */
export async function largestObject(bucket: Bucket, prefix: string): Promise<{ key: string; bytes: Buffer }> {
  const found = await collect(bucket.list(prefix));
  const largest = found.reduce((a, b) => (b.size > a.size ? b : a));
  const { bytes } = await readObject(bucket, largest.key, largest.size);
  return { key: largest.key, bytes };
}

/** Puts other bytes in an object's place, as damage would: in a directory without the bucket's knowing. */
export async function overwrite({ bucket, location }: Repository, key: string, bytes: Uint8Array): Promise<void> {
  if (location.startsWith('/')) writeFileSync(join(location, key), bytes);
  else await bucket.put(key, bytes);
}

/** Changes one object while `act` runs, and puts it back: `change` gives other bytes, or undefined to remove it. */
export async function withDamage(
  repository: Repository,
  key: string,
  change: (bytes: Buffer) => Buffer | undefined,
  act: () => Promise<void>,
): Promise<void> {
  const { bucket } = repository;
  const { size } = (await bucket.head(key))!;
  const { bytes } = await readObject(bucket, key, size);
  const changed = change(Buffer.from(bytes));
  if (changed === undefined) await bucket.delete(key);
  else await overwrite(repository, key, changed);
  try {
    await act();
  } finally {
    await overwrite(repository, key, bytes);
  }
}
