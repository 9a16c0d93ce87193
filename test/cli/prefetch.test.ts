import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { cachedOf, objectsOf, PREFETCHES, prefetchSource } from '../support/prefetch.ts';
import { canMount } from '../support/privilege.ts';
import { createWorld } from './support.ts';

const { directory, larder, ok, documents } = createWorld();
const cache = join(directory, 'cache');
const digests = new Map<string, ReadonlyMap<string, readonly string[]>>();

interface Status {
  readonly pid: number;
  readonly keeperPid: number;
  readonly volumes: readonly { readonly directory: string; readonly prefetch?: { readonly state: string } }[];
}

const status = () => documents('status')[0] as unknown as Status;
const wantedOf = (at: number) => {
  const { what, folders } = PREFETCHES[at]!;
  return folders.flatMap((folder) => digests.get(what)!.get(folder)!);
};

describe.skipIf(!canMount)('mount --prefetch', () => {
  beforeAll(() => {
    ok('repository', 'init');
    for (const [at, { what }] of PREFETCHES.entries()) {
      const source = join(directory, `source-${at}`);
      digests.set(what, prefetchSource(source, at));
      ok('import', source, `numbers-${at}`);
    }
  });

  afterAll(() => {
    const { pid, keeperPid, volumes } = status();
    for (const volume of volumes) larder('unmount', volume.directory);
    process.kill(pid, 'SIGTERM');
    process.kill(keeperPid, 'SIGTERM');
  });

  it('brings into the cache what it names, and no other file, before anybody opens one', async () => {
    for (const [at, { what }] of PREFETCHES.entries())
      ok('mount', `numbers-${at}`, join(directory, `at-${at}`), '--prefetch', what);
    while (status().volumes.some(({ prefetch }) => prefetch?.state === 'fetching')) await sleep(50);
    const wanted = PREFETCHES.flatMap((_, at) => wantedOf(at));
    expect(cachedOf(cache, wanted)).toEqual(wanted);
    expect(objectsOf(cache).sort()).toEqual([...wanted].sort());
    const states = status().volumes.map(({ directory: path, prefetch }) => [path, prefetch?.state]);
    expect(new Map(states as [string, string][])).toEqual(
      new Map(PREFETCHES.map(({ what }, at) => [join(directory, `at-${at}`), what === 'none' ? undefined : 'done'])),
    );
  });

  it('leaves the rest to whoever opens it', () => {
    for (const [at, { what }] of PREFETCHES.entries())
      for (const [folder, expected] of digests.get(what)!)
        for (const [name, digest] of expected.entries())
          expect(sha256(readFileSync(join(directory, `at-${at}`, folder, `${name}`)))).toBe(digest);
  });

  it('is refused where it is no pattern', () => {
    expect(larder('mount', 'numbers-0', join(directory, 'no'), '--prefetch', '')).toMatchObject({ status: 2 });
  });
});
