import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRepositories, largestObject, withDamage } from '../test/support/repositories.ts';
import type { ByteString } from './byte-string.ts';
import { checkout } from './checkout.ts';
import { type Difference, diffVersions } from './diff.ts';
import { ConflictError, CorruptError } from './errors.ts';
import { log, pathHistory } from './history.ts';
import { describeTree, noise } from './import/test-tree.ts';
import { importDirectory } from './import.ts';
import { findEntry } from './manifest.ts';
import { readFile } from './read-file.ts';
import { initRepository, type Repository } from './repository.ts';
import { AFFECTED_LIMIT, type Damage, describeDamage, verifyRepository } from './verify.ts';
import type { Version } from './version.ts';

let top: string;
let source: string;
let repository: Repository;
let first: Version;
let second: Version;

async function run(message: string): Promise<Version> {
  // Past the clock's tick, so that nothing is read twice.
  await new Promise((resolve) => setTimeout(resolve, 60));
  const options = { repository, source, dataset: 'birds', branch: 'main', message, author: 'a test' };
  return (await importDirectory(options)).version;
}

describeRepositories('a repository of two versions', (make, kind) => {
  beforeAll(async () => {
    top = fs.mkdtempSync(join(tmpdir(), 'larder-checkout-test-'));
    process.env.LARDER_STATE = join(top, 'state');
    source = join(top, 'source');
    for (let i = 0; i < 900; i++) {
      fs.mkdirSync(join(source, `d${i % 9}`), { recursive: true });
      fs.writeFileSync(join(source, `d${i % 9}`, `f${i}`), `file ${i} `.repeat(50 + (i % 90)));
    }
    fs.writeFileSync(join(source, 'large'), noise(14 << 20, 1));
    fs.linkSync(join(source, 'large'), join(source, 'd3', 'large-too'));
    fs.chmodSync(join(source, 'd8'), 0o555);
    repository = await initRepository(await make());
    first = await run('first');
    fs.writeFileSync(join(source, 'd4', 'f4'), 'changed '.repeat(60));
    fs.rmSync(join(source, 'd5', 'f5'));
    fs.writeFileSync(join(source, 'd6', 'new'), 'new '.repeat(100));
    fs.chmodSync(join(source, 'd7', 'f7'), 0o600);
    second = await run('second');
  });

  afterAll(async () => {
    await repository.bucket.close();
    delete process.env.LARDER_STATE;
    execFileSync('rm', ['-rf', top]);
  });

  describe('checking a version out', () => {
    it('refuses a directory with something in it, and replaces what stands in the way on request', async () => {
      const target = join(top, 'full');
      fs.mkdirSync(join(target, 'd4'), { recursive: true });
      fs.writeFileSync(join(target, 'd4', 'f4'), 'in the way');
      fs.writeFileSync(join(target, 'mine'), 'stays');
      await expect(checkout(repository, second.root, target)).rejects.toThrow(ConflictError);
      await checkout(repository, second.root, target, { force: true });
      expect(fs.readFileSync(join(target, 'd4', 'f4'), 'utf8')).toBe('changed '.repeat(60));
      expect(fs.readFileSync(join(target, 'mine'), 'utf8')).toBe('stays');
      await checkout(repository, second.root, target, { force: true });
      expect(execFileSync('find', [target, '-name', '.larder-*']).toString()).toBe('');
    });

    it('never follows a link that stands in the target out of it', async () => {
      const target = join(top, 'trap');
      const outside = join(top, 'outside');
      fs.mkdirSync(target);
      fs.mkdirSync(outside);
      fs.symlinkSync(outside, join(target, 'd4'));
      await expect(checkout(repository, second.root, target, { force: true })).rejects.toThrow(
        /'d4' in the target is not a directory/,
      );
      expect(fs.readdirSync(outside)).toEqual([]);
    });

    it('tells how far it is, up to all of it', async () => {
      const seen: { files: number; bytes: number; totalFiles: number; totalBytes: number }[] = [];
      const { files } = await checkout(repository, second.root, join(top, 'progress'), {
        onProgress: (at) => seen.push(at),
      });
      expect(files).toBe(second.entries);
      expect(seen.at(-1)).toMatchObject({ totalFiles: second.entries, totalBytes: second.bytes });
    });

    it('leaves no short file under its own name when it is killed', async () => {
      const script = `
      import { checkout } from ${JSON.stringify(new URL('./checkout.ts', import.meta.url).href)};
      import { openRepository } from ${JSON.stringify(new URL('./repository.ts', import.meta.url).href)};
      const repository = await openRepository(process.argv[2]);
      console.log('begins');
      await checkout(repository, process.argv[3], process.argv[4]);`;
      const file = join(top, 'checkout.mts');
      fs.writeFileSync(file, script);
      let partial = 0;
      for (let round = 0; round < (kind === 'S3' ? 3 : 6); round++) {
        const target = join(top, `killed-${round}`);
        const child = spawn(process.execPath, [file, repository.location, second.root, target], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const exited = once(child, 'exit');
        await once(child.stdout, 'data');
        // From its first file on, each time a little later.
        while (child.exitCode === null && filesBelow(target).length === 0) await sleep(5);
        await sleep(25 * round);
        child.kill('SIGKILL');
        await exited;
        const files = filesBelow(target);
        const written = files.filter((path) => !path.includes('.larder-'));
        if (files.length > 0 && written.length < 901) partial++;
        for (const path of written) execFileSync('cmp', [join(source, path), join(target, path)]);
      }
      expect(partial).toBeGreaterThan(0);
    });

    it('stops at a damaged chunk, and no file has a wrong byte', async () => {
      const { key } = await largestObject(repository.bucket, 'packs/');
      const damage = (bytes: Buffer) => {
        for (let at = bytes.length - 200_000; at < bytes.length; at += 1000) bytes[at]! ^= 1;
        return bytes;
      };
      await withDamage(repository, key, damage, async () => {
        const target = join(top, 'damaged');
        await expect(checkout(repository, second.root, target)).rejects.toThrow(CorruptError);
        const written = execFileSync('find', [
          target,
          '-type',
          'f',
          '-not',
          '-name',
          '.larder-*',
          '-printf',
          '%P\\n',
        ]).toString();
        for (const path of written.split('\n').filter(Boolean))
          execFileSync('cmp', [join(source, path), join(target, path)]);
      });
    });
  });

  describe('comparing versions', () => {
    async function differences(a: Version, b: Version, prefix?: string): Promise<string[]> {
      const found: Difference[] = [];
      for await (const each of diffVersions(repository, a.root, b.root, { prefix: prefix as ByteString | undefined }))
        found.push(each);
      return found.map(({ kind, path }) => `${kind} ${path}`);
    }

    it('lists what differs in path order, either way round', async () => {
      expect(await differences(first, second)).toEqual([
        'modified d4/f4',
        'metadata d5',
        'removed d5/f5',
        'metadata d6',
        'added d6/new',
        'metadata d7/f7',
      ]);
      expect(await differences(second, first)).toEqual([
        'modified d4/f4',
        'metadata d5',
        'added d5/f5',
        'metadata d6',
        'removed d6/new',
        'metadata d7/f7',
      ]);
      expect(await differences(first, first)).toEqual([]);
      expect(await differences(first, second, 'd6')).toEqual(['metadata d6', 'added d6/new']);
    });

    it('reads no segment that both versions have', async () => {
      const read: string[] = [];
      const counting: Repository = {
        ...repository,
        bucket: new Proxy(repository.bucket, {
          get(bucket, name) {
            if (name === 'get')
              return (key: string, options: object) => {
                read.push(key);
                return bucket.get(key, options);
              };
            const value = Reflect.get(bucket, name) as unknown;
            return typeof value === 'function' ? value.bind(bucket) : value;
          },
        }),
      };
      for await (const _ of diffVersions(counting, first.root, second.root));
      const segments = new Set(read);
      let all = 0;
      for await (const _ of repository.bucket.list('segments/')) all++;
      expect(segments.size).toBeGreaterThan(0);
      expect(read.length).toBe(segments.size);
      // Both roots and the leaves that differ; the leaves that are shared stay unread.
      expect(segments.size).toBeLessThan(all);
    });

    it('tells the history of a version, a file and a directory', async () => {
      const versions: string[] = [];
      for await (const { message } of log(repository, second.id)) versions.push(message);
      expect(versions).toEqual(['second', 'first']);
      const changes = async (path: string) => {
        const found: string[] = [];
        for await (const { version, change } of pathHistory(repository, second.id, path as ByteString))
          found.push(`${version.message} ${change}`);
        return found;
      };
      expect(await changes('d4/f4')).toEqual(['second modified', 'first added']);
      expect(await changes('d5/f5')).toEqual(['second removed', 'first added']);
      expect(await changes('d6')).toEqual(['second modified', 'first added']);
      expect(await changes('d1')).toEqual(['first added']);
      expect(await changes('nowhere')).toEqual([]);
    });
  });

  describe('reading one file', () => {
    it('gives its bytes, or a range of them, with and without the version at hand', async () => {
      const entry = await findEntry(repository, second.root, 'large' as ByteString);
      if (entry?.type !== 'file') throw new Error('large is no file');
      const all = fs.readFileSync(join(source, 'large'));
      const read = async (options: object) => {
        const parts: Buffer[] = [];
        for await (const part of readFile(repository, entry, options)) parts.push(part);
        return Buffer.concat(parts);
      };
      expect((await read({ root: second.root })).equals(all)).toBe(true);
      fs.rmSync(join(top, 'state'), { recursive: true });
      expect((await read({})).equals(all)).toBe(true);
      for (const [offset, length] of [
        [0, 1],
        [5_000_000, 3_000_000],
        [all.length - 3, 100],
        [all.length, 5],
      ] as const)
        expect(
          (await read({ root: second.root, range: { offset, length } })).equals(all.subarray(offset, offset + length)),
        ).toBe(true);
    });
  });

  describe('verifying a repository', () => {
    async function damages(deep = false): Promise<Damage[]> {
      const found: Damage[] = [];
      for await (const each of verifyRepository(repository, { deep })) found.push(each);
      return found;
    }

    /** Changes the largest object of a kind while `act` runs. */
    async function withObject(
      kind: string,
      change: (bytes: Buffer) => Buffer | undefined,
      act: (key: string) => Promise<void>,
    ) {
      const { key } = await largestObject(repository.bucket, `${kind}/`);
      await withDamage(repository, key, change, () => act(key));
    }

    const remove = () => undefined;
    const truncate = (bytes: Buffer) => bytes.subarray(0, bytes.length - 10);
    const flip = (bytes: Buffer) => {
      bytes[bytes.length >> 1]! ^= 0x10;
      return bytes;
    };

    it('finds nothing where nothing is wrong', async () => {
      expect(await damages()).toEqual([]);
      expect(await damages(true)).toEqual([]);
    });

    it('names a pack that is missing or too short, and the files it affects', async () => {
      for (const [change, kind] of [
        [remove, 'missing'],
        [truncate, 'damaged'],
      ] as const)
        await withObject('packs', change, async (key) => {
          const found = await damages();
          expect(found).toMatchObject([{ object: key, kind }]);
          expect(found[0]!.affectedCount).toBeGreaterThan(0);
          expect(found[0]!.affected.length).toBeLessThanOrEqual(AFFECTED_LIMIT);
          expect(describeDamage(found[0]!)).toContain(' of birds@main');
        });
    });

    it('names a flipped bit in a pack when it reads deep, and exactly the files that have the chunk', async () => {
      await withObject('packs', flip, async (key) => {
        expect(await damages()).toEqual([]);
        const found = await damages(true);
        expect(found).toMatchObject([{ object: key, kind: 'damaged' }]);
        // The middle of the largest pack is in the large file, which has two names.
        const paths = new Set(found[0]!.affected.map(({ path }) => path));
        expect([...paths]).toEqual(['d3/large-too', 'large']);
        expect(found[0]!.fault).toMatch(/^chunk [0-9a-f]{64}: /);
      });
    });

    it('names a damaged or missing segment, locations and version', async () => {
      for (const kind of ['segments', 'locations', 'versions'])
        for (const [change, what] of [
          [remove, 'missing'],
          [flip, 'damaged'],
        ] as const)
          await withObject(kind, change, async (key) => {
            const found = await damages();
            expect(found.map(({ object, kind: is }) => `${object} ${is}`)).toContain(`${key} ${what}`);
            expect(found.find(({ object }) => object === key)!.affectedCount).toBeGreaterThan(0);
          });
    });
  });

  it('a checkout of the second version is the source', async () => {
    const target = join(top, 'whole');
    await checkout(repository, second.root, target);
    expect(describeTree(target)).toEqual(describeTree(source));
  });
});

/** Paths of the files below a directory, which need not be there. */
function filesBelow(directory: string): string[] {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
}
