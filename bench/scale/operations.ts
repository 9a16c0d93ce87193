import type { EntryChange } from '../../dataset/manifest.ts';
import type { Repository } from '../../dataset/repository.ts';
import { entryOf } from './entry.ts';
import { generatedObject, generatedObjects, SOURCE_BUCKET, spreadPlaces } from './objects.ts';

/** Files that each commit changes. */
export const CHANGED = 100;

const DATASET = 'generated';

export interface Input {
  readonly repository: Repository;
  /** Objects in the listing that is imported. */
  readonly entries: number;
}

/** What an operation found, which must be what was put there. */
export type Found = Readonly<Record<string, number>>;

export interface Operation {
  readonly title: string;
  run(input: Input): Promise<Found>;
  /** What it must find. */
  expected(entries: number): Found;
}

/*
 * What is measured, in the order in which it is done: each goes on with what those before it left. Modules are loaded by the operation that needs
 * them, so that memory is its own.
 */
export const operations = {
  import: {
    title: 'import in place',
    async run({ repository, entries }) {
      const { importListing } = await import('../../dataset/source/import-listing.ts');
      const { version, seen } = await importListing({
        repository,
        dataset: DATASET,
        branch: 'main',
        bucket: {
          bucket: SOURCE_BUCKET,
          location: `s3://${SOURCE_BUCKET}?endpoint=http://127.0.0.1:9&region=us-east-1`,
        },
        prefix: '',
        listing: generatedObjects(entries),
        author: 'bench',
        message: 'generated',
      });
      return { seen, bytes: version.bytes };
    },
    expected(entries) {
      let bytes = 0;
      for (let i = 0; i < entries; i += 1) bytes += generatedObject(i).size;
      return { seen: entries, bytes };
    },
  },

  clone: {
    title: 'clone (branch create)',
    async run({ repository }) {
      const { moveBranch, readBranch } = await import('../../dataset/refs.ts');
      const { version } = (await readBranch(repository, DATASET, 'main'))!;
      await moveBranch(repository, DATASET, 'clone', { expect: 'absent', version });
      return {};
    },
    expected: () => ({}),
  },

  commit: {
    title: `commit of ${CHANGED} changes`,
    run: (input) => commit(input, 'main', 1),
    expected: () => ({ parents: 1 }),
  },

  'commit-clone': {
    title: `commit of ${CHANGED} others to the clone`,
    run: (input) => commit(input, 'clone', 2),
    expected: () => ({ parents: 1 }),
  },

  diff: {
    title: `diff of ${CHANGED} changes`,
    async run({ repository }) {
      const { diffVersions } = await import('../../dataset/diff.ts');
      const after = await headOf(repository, 'main');
      const { readVersion } = await import('../../dataset/version.ts');
      const before = await readVersion(repository, after.parents[0]!);
      let differences = 0;
      for await (const _ of diffVersions(repository, before.root, after.root)) differences += 1;
      return { differences };
    },
    expected: () => ({ differences: CHANGED }),
  },

  merge: {
    title: `merge of ${CHANGED} changes`,
    async run({ repository }) {
      const { mergeVersions } = await import('../../dataset/merge.ts');
      const { id: theirs } = await headOf(repository, 'clone');
      const { changes, conflicts } = await mergeVersions({
        repository,
        dataset: DATASET,
        branch: 'main',
        theirs,
        author: 'bench',
        message: 'both',
      });
      return { changes, conflicts };
    },
    expected: () => ({ changes: CHANGED, conflicts: 0 }),
  },

  log: {
    title: 'log',
    async run({ repository }) {
      const { log } = await import('../../dataset/history.ts');
      const { id } = await headOf(repository, 'main');
      let versions = 0;
      for await (const _ of log(repository, id)) versions += 1;
      return { versions };
    },
    expected: () => ({ versions: 4 }),
  },
} satisfies Record<string, Operation>;

export type OperationName = keyof typeof operations;

async function headOf(repository: Repository, branch: string) {
  const { readBranch } = await import('../../dataset/refs.ts');
  const { readVersion } = await import('../../dataset/version.ts');
  return await readVersion(repository, (await readBranch(repository, DATASET, branch))!.version);
}

/** Commits changes that are known, as a list: nothing is scanned or read. */
async function commit({ repository, entries }: Input, branch: string, seed: number): Promise<Found> {
  const { commitChanges } = await import('../../dataset/commit.ts');
  const changes = spreadPlaces(entries, CHANGED, seed).map(
    (place): EntryChange => ({ kind: 'put', entry: entryOf(generatedObject(place, seed)) }),
  );
  async function* source() {
    yield changes;
  }
  const { version } = await commitChanges({
    repository,
    dataset: DATASET,
    branch,
    base: await headOf(repository, branch),
    changes: source(),
    author: 'bench',
    message: `${CHANGED} changed`,
  });
  return { parents: version.parents.length };
}
