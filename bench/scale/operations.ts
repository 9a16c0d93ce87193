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
  /** Loads the modules that it needs and no others, so that its memory is its own, and gives what is to be timed. */
  load(): Promise<(input: Input) => Promise<Found>>;
  /** What it must find. */
  expected(entries: number): Found;
}

/** What is measured, in the order in which it is done: each goes on with what those before it left. */
export const operations = {
  import: {
    title: 'import in place',
    async load() {
      const { importListing } = await import('../../dataset/source/import-listing.ts');
      return async ({ repository, entries }) => {
        const { version, seen } = await importListing({
          repository,
          dataset: DATASET,
          branch: 'main',
          // Nothing is ever asked of it.
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
      };
    },
    expected(entries) {
      let bytes = 0;
      for (let i = 0; i < entries; i += 1) bytes += generatedObject(i).size;
      return { seen: entries, bytes };
    },
  },

  clone: {
    title: 'clone (branch create)',
    async load() {
      const { moveBranch, readBranch } = await import('../../dataset/refs.ts');
      return async ({ repository }) => {
        const { version } = (await readBranch(repository, DATASET, 'main'))!;
        await moveBranch(repository, DATASET, 'clone', { expect: 'absent', version });
        return {};
      };
    },
    expected: () => ({}),
  },

  commit: {
    title: `commit of ${CHANGED} changes`,
    load: () => committing('main', 1),
    expected: () => ({ parents: 1 }),
  },

  'commit-clone': {
    title: `commit of ${CHANGED} others to the clone`,
    load: () => committing('clone', 2),
    expected: () => ({ parents: 1 }),
  },

  diff: {
    title: `diff of ${CHANGED} changes`,
    async load() {
      const { diffVersions } = await import('../../dataset/diff.ts');
      const { headOf, readVersion } = await heads();
      return async ({ repository }) => {
        const after = await headOf(repository, 'main');
        const before = await readVersion(repository, after.parents[0]!);
        let differences = 0;
        for await (const _ of diffVersions(repository, before.root, after.root)) differences += 1;
        return { differences };
      };
    },
    expected: () => ({ differences: CHANGED }),
  },

  merge: {
    title: `merge of ${CHANGED} changes`,
    async load() {
      const { mergeVersions } = await import('../../dataset/merge.ts');
      const { headOf } = await heads();
      return async ({ repository }) => {
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
      };
    },
    expected: () => ({ changes: CHANGED, conflicts: 0 }),
  },

  log: {
    title: 'log',
    async load() {
      const { log } = await import('../../dataset/history.ts');
      const { headOf } = await heads();
      return async ({ repository }) => {
        const { id } = await headOf(repository, 'main');
        let versions = 0;
        for await (const _ of log(repository, id)) versions += 1;
        return { versions };
      };
    },
    expected: () => ({ versions: 4 }),
  },

  collect: {
    title: 'collect (dry run)',
    async load() {
      const { collect } = await import('../../dataset/collect.ts');
      return async ({ repository }) => {
        let versions = 0;
        const { plan } = await collect({
          repository,
          grace: 0,
          dryRun: true,
          onProgress(progress) {
            versions = progress.versions;
          },
        });
        return { versions, planned: plan === undefined ? 0 : 1 };
      };
    },
    expected: () => ({ versions: 4, planned: 1 }),
  },
} satisfies Record<string, Operation>;

export type OperationName = keyof typeof operations;

async function heads() {
  const { readBranch } = await import('../../dataset/refs.ts');
  const { readVersion } = await import('../../dataset/version.ts');
  const headOf = async (repository: Repository, branch: string) =>
    await readVersion(repository, (await readBranch(repository, DATASET, branch))!.version);
  return { headOf, readVersion };
}

/** Commits changes that are known, as a list: nothing is scanned or read. */
async function committing(branch: string, seed: number): Promise<(input: Input) => Promise<Found>> {
  const { commitChanges } = await import('../../dataset/commit.ts');
  const { headOf } = await heads();
  return async ({ repository, entries }) => {
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
  };
}
