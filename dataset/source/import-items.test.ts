import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bytesOf, textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { UnavailableError } from '../errors.ts';
import { readEntries } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { readBranch } from '../refs.ts';
import { initRepository, type Repository } from '../repository.ts';
import { archiveFolder, type Item, type ItemsImportOptions, importItems } from './import-items.ts';

let folder: string;
let repository: Repository;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-items-'));
  process.env.LARDER_STATE = join(folder, 'state');
  repository = await initRepository(join(folder, 'repository'));
});

afterEach(async () => {
  await repository.bucket.close();
  delete process.env.LARDER_STATE;
  rmSync(folder, { recursive: true, force: true });
});

describe('importing what a source has', () => {
  it('takes many files at a time, of any size, each with its own bytes', async () => {
    const files = new Map<string, Buffer>();
    for (let i = 0; i < 400; i++)
      files.set(`f${String(i).padStart(3, '0')}`, randomBytes(i % 50 === 0 ? 2_500_000 : i * 3));
    const { version, read } = await run(files);
    expect(read.files).toBe(400);
    for (const entry of await entries(version.root)) {
      if (entry.type !== 'file') continue;
      expect((await bytesAt(entry, version.root)).equals(files.get(textOf(entry.path))!), textOf(entry.path)).toBe(
        true,
      );
    }
  });

  it('leaves out what went before it was read, and says so', async () => {
    const warnings: string[] = [];
    const files = new Map([
      ['a', Buffer.from('a')],
      ['b', Buffer.from('b')],
    ]);
    const gone = new Set(['a']);
    const { version } = await run(files, { gone, onWarning: (text) => warnings.push(text) });
    expect((await entries(version.root)).map(({ path }) => textOf(path))).toEqual(['', 'b']);
    expect(warnings).toEqual(["'a' went while it was imported"]);
    gone.clear();
    expect((await run(files, { gone })).read.files).toBe(1);
  });

  it('publishes nothing where one cannot be read, and reads again then what it had read', async () => {
    const files = new Map(Array.from({ length: 60 }, (_, i) => [`f${10 + i}`, randomBytes(5000)] as const));
    const failing = new Set(['f40']);
    await expect(run(files, { failing })).rejects.toThrow(UnavailableError);
    expect(await readBranch(repository, 'data', 'main')).toBeUndefined();
    failing.clear();
    const { version, read } = await run(files, { failing });
    expect(read.files).toBe(60);
    expect(version.entries).toBe(61);
  });

  it('records what it read, not what was listed, of a file that changes between', async () => {
    const files = new Map([['a', Buffer.from('old')]]);
    await run(files, { later: new Map([['a', Buffer.from('newer')]]) });
    const again = await run(new Map([['a', Buffer.from('newer')]]));
    expect(again).toMatchObject({ outcome: 'unchanged', read: { files: 0 } });
    expect((await entries(again.version.root))[1]).toMatchObject({ size: 5 });
  });

  it('reads everything when it is told to trust nothing', async () => {
    const files = new Map([['a', Buffer.from('a')]]);
    await run(files);
    expect(await run(files, { checksum: true })).toMatchObject({ outcome: 'unchanged', read: { files: 1 } });
  });

  it('finds the folder of an archive by its name', () => {
    expect(['a.tar', 'b/c.tar.gz', 'd.tgz', 'e.tar.zst', 'f.TAR'].map((name) => archiveFolder(bytesOf(name)))).toEqual([
      'a',
      'b/c',
      'd',
      'e',
      'f',
    ]);
    for (const name of ['a', 'tar', '.tar', 'b/.tar', 'a.tar.xz', 'a.zip'])
      expect(archiveFolder(bytesOf(name))).toBeUndefined();
  });
});

interface Faults extends Partial<ItemsImportOptions> {
  readonly gone?: ReadonlySet<string>;
  readonly failing?: ReadonlySet<string>;
  /** What files have when they are opened, if it is not what they had when they were listed. */
  readonly later?: ReadonlyMap<string, Buffer>;
}

const metadata = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 1, mtimeNanos: 0 };

/** A source of these files, which gives bytes in small pieces. */
function run(files: ReadonlyMap<string, Buffer>, { gone, failing, later, ...options }: Faults = {}) {
  const stamp = (bytes: Buffer) => `${bytes.length} ${bytes.subarray(0, 16).toString('hex')}`;
  async function* items(): AsyncGenerator<Item[]> {
    yield [{ type: 'directory', path: bytesOf(''), ...metadata, mode: 0o755 }];
    for (const [path, bytes] of files)
      yield [{ type: 'file', path: bytesOf(path), key: path, size: bytes.length, stamp: stamp(bytes) }];
  }
  return importItems({
    repository,
    dataset: 'data',
    branch: 'main',
    message: '',
    author: 'a test',
    source: 'a test',
    items: items(),
    open: async ({ key }) => {
      await new Promise((resolve) => setTimeout(resolve, (key.charCodeAt(1) || 0) % 5));
      if (gone?.has(key)) return undefined;
      if (failing?.has(key)) throw new UnavailableError(`${key} is away`);
      const bytes = later?.get(key) ?? files.get(key)!;
      async function* body() {
        for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
      }
      return { entry: metadata, stamp: stamp(bytes), body: body() };
    },
    ...options,
  });
}

async function entries(root: Digest): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const batch of readEntries(repository, root)) found.push(...batch);
  return found;
}

async function bytesAt(entry: FileEntry, root: Digest): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for await (const block of readFile(repository, entry, { root })) blocks.push(Buffer.from(block));
  return Buffer.concat(blocks);
}
