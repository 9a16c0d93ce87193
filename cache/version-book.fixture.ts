import type { Digest } from '../dataset/digest.ts';
import type { KnownVersion } from './known-versions.ts';
import type { BuiltVersion } from './staged.fixture.ts';
import type { VersionBook } from './victims.ts';

export interface BookEntry {
  readonly lastStaged: number;
  readonly pinned?: boolean;
  readonly dataset?: string;
}

/** A test's versions. */
export interface TestBook extends VersionBook {
  put(version: BuiltVersion, entry: BookEntry): void;
  readonly staged: Set<Digest>;
  readonly forgotten: Digest[];
  /** Of which nobody can tell the contents. */
  readonly lost: Set<Digest>;
}

export function testBook(): TestBook {
  const versions = new Map<Digest, { known: KnownVersion; built: BuiltVersion }>();
  const book: TestBook = {
    staged: new Set(),
    forgotten: [],
    lost: new Set(),
    put: (built, { lastStaged, pinned = false, dataset = 'd' }) => {
      const { version, root } = built.staged;
      versions.set(version, { known: { version, root, repository: 'r', dataset, lastStaged, pinned }, built });
    },
    all: () => [...versions.values()].map(({ known }) => known),
    inUse: (version) => book.staged.has(version),
    mapOf: async ({ version }) => (book.lost.has(version) ? undefined : versions.get(version)!.built.staged.map),
    forget: async ({ version }) => {
      versions.delete(version);
      book.forgotten.push(version);
    },
  };
  return book;
}
