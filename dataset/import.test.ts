import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { punchHole } from '../system/calls.ts';
import { collect } from '../test/support/collect.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { type ByteString, textOf } from './byte-string.ts';
import { checkout } from './checkout.ts';
import { sha256 } from './digest.ts';
import type { Entry, FileEntry } from './entry.ts';
import { ConflictError, InvalidError, NotFoundError } from './errors.ts';
import { describeTree, noise, randomizer, setTime, trySetAttribute } from './import/test-tree.ts';
import { type ImportOptions, importDirectory } from './import.ts';
import { findEntry, readEntries } from './manifest.ts';
import { readFile } from './read-file.ts';
import { moveBranch, readBranch, readTag } from './refs.ts';
import { initRepository, type Repository } from './repository.ts';
import { verifyRepository } from './verify.ts';

/** Runs an import in a process of its own. */
const importer = fileURLToPath(new URL('./import/test-import.ts', import.meta.url));

let top: string;
let directory: string;
let source: string;
let repository: Repository;
let made = 0;

describeRepositories('importing', (make, kind) => {
  beforeAll(() => {
    top = fs.mkdtempSync(join(tmpdir(), 'larder-import-test-'));
    process.env.LARDER_STATE = join(top, 'state');
  });

  beforeEach(async () => {
    directory = join(top, String(made++));
    source = join(directory, 'source');
    fs.mkdirSync(source, { recursive: true });
    repository = await initRepository(await make());
    return () => repository.bucket.close();
  });

  afterAll(() => {
    delete process.env.LARDER_STATE;
    execFileSync('rm', ['-rf', top]);
  });

  describe('importing a directory', () => {
    it('keeps everything about every kind of entry', async () => {
      write('empty', '');
      write('tiny', 'tiny');
      write('small.txt', 'small '.repeat(1000));
      write('noise.bin', noise(300_000, 3));
      write('sub/dir/large.bin', noise(9 << 20, 4));
      write('sub.txt', 'sorts behind what is in sub');
      fs.mkdirSync(join(source, 'nothing-in-here'));
      fs.symlinkSync('small.txt', join(source, 'link'));
      fs.symlinkSync('/nowhere/at all', join(source, 'dangling'));
      fs.linkSync(join(source, 'noise.bin'), join(source, 'another-name'));
      fs.linkSync(join(source, 'noise.bin'), join(source, 'sub/third-name'));
      fs.chmodSync(join(source, 'small.txt'), 0o4751);
      fs.chmodSync(join(source, 'sub'), 0o1775);
      trySetAttribute(join(source, 'tiny'), 'user.label', 'wren');
      trySetAttribute(join(source, 'sub'), 'user.kind', 'directory');
      setTime(join(source, 'tiny'), -1, 999_999_999);
      setTime(join(source, 'noise.bin'), 4_000_000_000, 1);
      setTime(join(source, 'link'), 12, 345_678_901);
      if (process.getuid?.() === 0) fs.lchownSync(join(source, 'tiny'), 1234, 4321);
      setTime(join(source, 'sub/dir'), 1_000_000_000, 123_456_789);

      const { version, outcome, read } = await run();
      expect(outcome).toBe('created');
      expect(version.entries).toBe(describeTree(source).length);
      // The names of one file are read once.
      expect(read.files).toBe(6);
      const entries = await entriesOf(version.root);
      const links = entries.filter((entry) => entry.type === 'file' && entry.link !== undefined);
      expect(links.map((entry) => (entry as FileEntry).link)).toEqual(Array(3).fill('another-name'));
      expect((await fileAt(version.root, 'tiny')).content.kind).toBe('inline');
      const chunked = await fileAt(version.root, 'sub/dir/large.bin');
      expect(chunked.content.kind).toBe('chunks');
      expect((await fileAt(version.root, 'noise.bin')).content).toEqual({
        kind: 'chunk',
        id: sha256(noise(300_000, 3)),
      });
      await expectRoundTrip(version.root);
    });

    it('keeps holes as holes', async () => {
      const fd = fs.openSync(join(source, 'sparse'), 'w');
      fs.writeSync(fd, noise(200_000, 5), 0, 200_000, 0);
      fs.writeSync(fd, noise(100_000, 6), 0, 100_000, 50 << 20);
      fs.ftruncateSync(fd, 100 << 20);
      fs.closeSync(fd);
      fs.closeSync(fs.openSync(join(source, 'hole'), 'w'));
      fs.truncateSync(join(source, 'hole'), 1 << 30);
      write('punched', noise(800_000, 8));
      const punched = fs.openSync(join(source, 'punched'), 'r+');
      punchHole(punched, 131_072, 262_144);
      fs.closeSync(punched);

      const { version, read } = await run();
      expect(read.bytes).toBeLessThan(3_000_000);
      expect((await fileAt(version.root, 'hole')).content).toMatchObject({
        kind: 'chunks',
        parts: [{ length: 1 << 30 }],
      });
      const target = join(directory, 'out');
      await checkout(repository, version.root, target);
      for (const name of ['sparse', 'hole', 'punched']) {
        const [was, is] = [fs.statSync(join(source, name)), fs.statSync(join(target, name))];
        expect(is.size).toBe(was.size);
        expect(is.blocks).toBeLessThanOrEqual(was.blocks + 64);
      }
      execFileSync('cmp', [join(source, 'sparse'), join(target, 'sparse')]);
      execFileSync('cmp', [join(source, 'punched'), join(target, 'punched')]);
      let length = 0;
      for await (const bytes of readFile(repository, await fileAt(version.root, 'punched'), { root: version.root }))
        length += bytes.length;
      expect(length).toBe(800_000);
    });

    it('stores a content once, however many files have it', async () => {
      for (let i = 0; i < 20; i++) write(`copy-${i}`, noise(500_000, 9));
      const { stored } = await run();
      expect(stored).toMatchObject({ chunks: 1, bytes: 500_000 });
    });

    it('makes the tag it was asked for, and refuses one that is taken before it reads anything', async () => {
      write('file', 'one');
      const { version } = await run({ tag: 'v1' });
      expect((await readTag(repository, 'birds', 'v1'))?.version).toBe(version.id);
      await expect(run({ tag: 'v1' })).rejects.toThrow(/has a tag 'v1' already/);
    });
  });

  describe('importing the same directory again', () => {
    it('reads nothing and writes nothing where nothing changed', async () => {
      for (let i = 0; i < 300; i++) write(`d${i % 7}/f${i}`, `file ${i} `.repeat(80));
      fs.linkSync(join(source, 'd1/f1'), join(source, 'd2/linked'));
      await settle();
      const first = await run();
      expect(first.read.files).toBe(300);
      const before = await objects();
      const again = await run();
      expect(again).toMatchObject({
        outcome: 'unchanged',
        read: { files: 0, bytes: 0 },
        version: { id: first.version.id },
      });
      expect(await objects()).toEqual(before);
    });

    it('reads only what changed, and writes in proportion to it', async () => {
      for (let i = 0; i < 1000; i++) write(`d${i % 10}/f${i}`, `file ${i} `.repeat(80));
      await settle();
      const first = await run();
      write('d3/f13', 'changed '.repeat(50));
      write('d4/new', 'new '.repeat(100));
      fs.rmSync(join(source, 'd5/f15'));
      fs.chmodSync(join(source, 'd6/f16'), 0o600);
      fs.renameSync(join(source, 'd7'), join(source, 'renamed'));
      await settle();
      const second = await run();
      expect(second.outcome).toBe('created');
      // The renamed directory's files have new paths; the changed, the new one and that of another mode.
      expect(second.read.files).toBe(100 + 3);
      expect(second.stored.chunks).toBe(2);
      expect(second.version.parents).toEqual([first.version.id]);
      await expectRoundTrip(second.version.root);
      expect(await run()).toMatchObject({ outcome: 'unchanged', read: { files: 0 } });
    });

    it('reads everything again on request, and writes nothing if it is the same', async () => {
      for (let i = 0; i < 50; i++) write(`f${i}`, `file ${i} `.repeat(80));
      await settle();
      await run();
      const before = await objects();
      expect(await run({ checksum: true })).toMatchObject({ outcome: 'unchanged', read: { files: 50 } });
      expect(await objects()).toEqual(before);
    });

    it('reads everything where what it kept is gone, and writes nothing if it is the same', async () => {
      for (let i = 0; i < 500; i++) write(`f${i}`, `file ${i} `.repeat(80));
      await settle();
      const first = await run();
      const before = await objects();
      fs.rmSync(join(top, 'state'), { recursive: true });
      expect(await run()).toMatchObject({
        outcome: 'unchanged',
        read: { files: 500 },
        version: { id: first.version.id },
      });
      expect(await objects()).toEqual(before);
    });

    it('makes the same tree as a first import, whatever was edited before', async () => {
      const random = randomizer(20_261_125);
      const paths = new Set<string>();
      for (let round = 0; round < (kind === 'S3' ? 2 : 8); round++) {
        for (let i = 0; i < 60; i++) {
          const path = `d${random(5)}/e${random(5)}/f${random(40)}`;
          const what = random(10);
          if (what < 6) {
            write(path, `${round} ${random(1000)} `.repeat(random(300)));
            paths.add(path);
          } else if (what < 8 && paths.has(path)) {
            fs.rmSync(join(source, path), { force: true });
            paths.delete(path);
          } else if (what === 8)
            fs.rmSync(join(source, `d${random(5)}/e${random(5)}`), { recursive: true, force: true });
          else if (fs.existsSync(join(source, path))) fs.chmodSync(join(source, path), 0o600 + random(64));
        }
        const { version } = await run();
        const fresh = await run({ dataset: `fresh-${round}` });
        expect(version.root).toBe(fresh.version.root);
      }
    });

    it('goes on from another branch head than its own, as a version on top of it', async () => {
      write('mine', 'mine '.repeat(100));
      await settle();
      const mine = await run();
      const other = join(directory, 'other');
      fs.mkdirSync(other);
      fs.writeFileSync(join(other, 'theirs'), 'theirs '.repeat(100));
      const theirs = await run({ source: other });
      expect(theirs.version.parents).toEqual([mine.version.id]);
      const again = await run();
      expect(again).toMatchObject({
        outcome: 'created',
        read: { files: 0 },
        version: { root: mine.version.root, parents: [theirs.version.id] },
      });
      await expectRoundTrip(again.version.root);
    });
  });

  describe('several writers', () => {
    it('tells who comes second what to do, and loses nothing', async () => {
      write('file', 'one '.repeat(100));
      const first = await run();
      write('file', 'two '.repeat(100));
      const failure = await run({
        onProgress: ({ phase }) => {
          if (phase !== 'reading' || fs.existsSync(join(directory, 'moved'))) return;
          fs.writeFileSync(join(directory, 'moved'), '');
          const head = readBranch(repository, 'birds', 'main');
          void head.then((ref) =>
            moveBranch(repository, 'birds', 'main', { expect: ref!.etag, version: first.version.id }),
          );
        },
      }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ConflictError);
      expect((failure as Error).message).toMatch(/run the same command again/);
      await settle();
      const again = await run();
      expect(again.outcome).toBe('created');
      await expectRoundTrip(again.version.root);
    });

    it('lets two processes import into one repository at a time', async () => {
      for (let i = 0; i < 400; i++) write(`f${i}`, `file ${i} `.repeat(100));
      const children = ['a', 'b', 'c'].map((dataset) =>
        spawn(process.execPath, [importer, repository.location, source, dataset]),
      );
      const ends = await Promise.all(
        children.map(async (child) => {
          const ended = once(child, 'close');
          const said = await text(child.stderr);
          return `${(await ended)[0]}${said}`;
        }),
      );
      expect(ends).toEqual(['0', '0', '0']);
      const damage = [];
      for await (const each of verifyRepository(repository, { deep: true })) damage.push(each);
      expect(damage).toEqual([]);
      const refs = await Promise.all(['a', 'b', 'c'].map((dataset) => readBranch(repository, dataset, 'main')));
      for (const ref of refs) expect(ref).toBeDefined();
    });
  });

  // Nothing in these is about where the repository is.
  if (kind === 'directory')
    describe('the source of an import', () => {
      it('keeps names that are not UTF-8, names of 255 bytes and names with odd characters', async () => {
        const names = [Buffer.from([0xff, 0xfe, 0x41]), Buffer.alloc(255, 'n'), Buffer.from('a\nb\t"c" ä €')];
        for (const [i, name] of names.entries())
          fs.writeFileSync(Buffer.concat([Buffer.from(`${source}/`), name]), `file ${i} `.repeat(100));
        fs.symlinkSync(Buffer.from([0xc3, 0x28]), join(source, 'to-bytes'));
        const { version } = await run();
        await expectRoundTrip(version.root);
      });

      it('counts devices, sockets and FIFOs, and leaves them out', async () => {
        write('file', 'file');
        execFileSync('mkfifo', [join(source, 'fifo')]);
        const server = createServer().listen(join(source, 'socket'));
        await new Promise((resolve) => server.once('listening', resolve));
        const warnings: string[] = [];
        const first = await run({ onWarning: (text) => warnings.push(text) });
        const again = await run({ onWarning: (text) => warnings.push(text) });
        server.close();
        expect(first.skipped).toEqual({ devices: 0, sockets: 1, fifos: 1 });
        expect(again).toMatchObject({ outcome: 'unchanged', skipped: { devices: 0, sockets: 1, fifos: 1 } });
        expect(warnings).toEqual(Array(2).fill('left out, as a version cannot hold them: 1 socket, 1 FIFO'));
        expect((await entriesOf(first.version.root)).map(({ path }) => path)).toEqual(['', 'file']);
      });

      it('compresses what shrinks, and stores what does not as it is', async () => {
        write('text', 'the same line again\n'.repeat(50_000));
        write('noise', noise(1_000_000, 10));
        const { stored } = await run();
        expect(stored.packBytes).toBeGreaterThan(1_000_000);
        expect(stored.packBytes).toBeLessThan(1_020_000);
      });

      it('names a file that it may not read', async () => {
        write('shut', 'shut'.repeat(1000));
        fs.chmodSync(join(source, 'shut'), 0);
        const failure = process.getuid?.() === 0 ? await importAsNobody() : await run().catch((error) => error.message);
        expect(failure).toMatch(/cannot read '.*\/shut': permission is denied/);
      });

      it('refuses what is no directory, and says what it wants', async () => {
        write('file', 'file');
        await expect(run({ source: join(source, 'file') })).rejects.toThrow(InvalidError);
        await expect(run({ source: join(source, 'not-there') })).rejects.toThrow(NotFoundError);
      });

      it('finds a change that kept size and mtime, by its ctime', async () => {
        write('file', 'AAAA'.repeat(100));
        setTime(join(source, 'file'), 1_000_000_000, 0);
        await settle();
        await run();
        write('file', 'BBBB'.repeat(100));
        setTime(join(source, 'file'), 1_000_000_000, 0);
        const { version, read } = await run();
        expect(read.files).toBe(1);
        await expectRoundTrip(version.root);
      });

      it('finds a change made in the same instant as the import', async () => {
        for (let i = 0; i < 3; i++) {
          write('file', `${i}`.repeat(400));
          await run();
          write('file', `${i + 5}`.repeat(400));
          await expectRoundTrip((await run()).version.root);
        }
      });

      it('follows entries that became something else', async () => {
        write('a/inner', 'inner');
        write('b', 'b was a file');
        fs.symlinkSync('b', join(source, 'c'));
        write('d', 'd was a file');
        await settle();
        await run();
        fs.rmSync(join(source, 'a'), { recursive: true });
        write('a', 'a is a file');
        fs.rmSync(join(source, 'b'));
        write('b/inner', 'b is a directory');
        fs.rmSync(join(source, 'c'));
        write('c', 'c is a file');
        fs.rmSync(join(source, 'd'));
        execFileSync('mkfifo', [join(source, 'd')]);
        const { version } = await run();
        fs.rmSync(join(source, 'd'));
        const entries = await entriesOf(version.root);
        expect(entries.map(({ path, type }) => `${path} ${type}`)).toEqual([
          ' directory',
          'a file',
          'b directory',
          'b/inner file',
          'c file',
        ]);
      });

      it('keeps hard links together when one of their directories is renamed', async () => {
        write('a/one', noise(5000, 11));
        fs.mkdirSync(join(source, 'm'));
        fs.linkSync(join(source, 'a/one'), join(source, 'm/two'));
        await settle();
        await run();
        fs.renameSync(join(source, 'a'), join(source, 'z'));
        await settle();
        const late = await run();
        await expectRoundTrip(late.version.root);
        fs.renameSync(join(source, 'z'), join(source, 'b'));
        await settle();
        const early = await run();
        await expectRoundTrip(early.version.root);
      });

      it('keeps paths that are longer than any path the kernel takes', async () => {
        // 24 directories of 200 bytes: more than PATH_MAX.
        const script = `cd "$1"; for i in $(seq 24); do n=$(printf "%0200d" $i); mkdir $n; cd $n; echo "level $i $(seq 200)" > file; ln -s file link; ln file name; done; touch -d @1000000000.5 .`;
        execFileSync('bash', ['-c', script, 'bash', source]);
        await settle();
        const { version } = await run();
        expect(version.entries).toBe(1 + 24 * 4);
        const again = await run();
        expect(again).toMatchObject({ outcome: 'unchanged', read: { files: 0 } });
        const target = join(directory, 'deep');
        await checkout(repository, version.root, target);
        const list = (root: string) =>
          execFileSync('bash', [
            '-c',
            `cd "$1"; tar c --format=posix --pax-option=delete=atime,delete=ctime --sort=name . | sha256sum`,
            'bash',
            root,
          ]).toString();
        expect(list(target)).toBe(list(source));
      });

      it('takes a large flat directory in pieces, and follows names that come and go', async () => {
        const names = Array.from({ length: 2600 }, (_, i) => `name-${(i * 7919) % 2600}-${i}`);
        for (const name of names) write(name, '');
        await settle();
        await run();
        expect(await run()).toMatchObject({ outcome: 'unchanged', read: { files: 0 }, seen: 2600 });
        for (let i = 0; i < 2500; i += 250) fs.rmSync(join(source, names[i]!));
        for (let i = 0; i < 10; i++) write(`added-${i}`, `added ${i}`);
        write('zzz', 'the last');
        await settle();
        const second = await run();
        expect(second.read.files).toBe(11);
        await expectRoundTrip(second.version.root);
        expect(await run()).toMatchObject({ outcome: 'unchanged', read: { files: 0 } });
        // Down to a directory of one piece, and up again.
        for (const [i, name] of names.entries()) if (i % 10 !== 0) fs.rmSync(join(source, name));
        await settle();
        await expectRoundTrip((await run()).version.root);
        for (const [i, name] of names.entries()) if (i % 10 !== 0) write(name, 'again');
        await settle();
        await expectRoundTrip((await run()).version.root);
      });

      it('fails and names a file that keeps changing', async () => {
        write('steady', 'steady '.repeat(100));
        write('restless', noise(6_000_000, 12));
        const path = join(source, 'restless');
        // Another process, which changes it many times in the time that reading it takes.
        const script = `const fd = fs.openSync(process.argv[1], 'r+'); for (;;) fs.writeSync(fd, 'x', 0)`;
        const child = spawn(process.execPath, ['-e', script, path]);
        try {
          await sleep(300);
          const failure = await run().catch((error: unknown) => error);
          expect(failure).toBeInstanceOf(ConflictError);
          expect((failure as Error).message).toContain(`'${textOf(path as ByteString)}' changed each time it was read`);
        } finally {
          child.kill('SIGKILL');
        }
      });

      it('leaves out a file that goes before it is read, and finds it when it is back', async () => {
        for (let i = 0; i < 1200; i++) write(`d${i % 20}/f${i}`, `${i} `.repeat(200));
        // One process that renames by itself: when it has ended, nothing changes the directory any more.
        const script = `
          const { readdirSync, renameSync } = require('node:fs');
          const { join } = require('node:path');
          const source = process.argv[1];
          const files = readdirSync(source, { recursive: true }).filter((path) => /^d1.*5$/.test(path));
          console.log('began');
          for (;;) for (const file of files) {
            const path = join(source, file);
            renameSync(path, path + '.away');
            renameSync(path + '.away', path);
          }`;
        for (let round = 0; round < 3; round++) {
          const child = spawn(process.execPath, ['-e', script, source], { stdio: ['ignore', 'pipe', 'inherit'] });
          const ended = new Promise((resolve) => child.once('exit', resolve));
          try {
            await new Promise((resolve) => child.stdout.once('data', resolve));
            for (let i = 0; i < 3; i++) await run();
          } finally {
            child.kill('SIGKILL');
            await ended;
          }
          await settle();
          await expectRoundTrip((await run()).version.root);
        }
      });
    });
});

function run(options: Partial<ImportOptions> = {}) {
  return importDirectory({
    repository,
    source,
    dataset: 'birds',
    branch: 'main',
    message: 'a test',
    author: 'a test',
    ...options,
  });
}

function write(path: string, content: string | Buffer): void {
  fs.mkdirSync(join(source, path, '..'), { recursive: true });
  fs.writeFileSync(join(source, path), content);
}

/** Lets the file system's clock pass what the next import trusts. */
async function settle(): Promise<void> {
  await sleep(60);
}

async function entriesOf(root: Parameters<typeof readEntries>[1]): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const batch of readEntries(repository, root)) entries.push(...batch);
  return entries;
}

async function fileAt(root: Parameters<typeof readEntries>[1], path: string): Promise<FileEntry> {
  const entry = await findEntry(repository, root, path as ByteString);
  if (entry?.type !== 'file') throw new Error(`${path} is ${entry?.type}`);
  return entry;
}

/** What the repository holds, and since when. */
async function objects(): Promise<string[]> {
  const found = await collect(repository.bucket.list(''));
  return found.map(({ key, size, etag, modified }) => `${key} ${size} ${etag} ${modified.toISOString()}`);
}

/** Whether a checkout of the version equals the source in everything. */
async function expectRoundTrip(root: Parameters<typeof readEntries>[1]): Promise<void> {
  const target = join(directory, `out-${made++}`);
  await checkout(repository, root, target);
  expect(describeTree(target)).toEqual(describeTree(source));
}

/** Imports in a process without rights; gives what it failed with. */
async function importAsNobody(): Promise<string> {
  for (let at = directory; at !== tmpdir(); at = join(at, '..')) fs.chmodSync(at, 0o755);
  if (fs.existsSync(repository.location)) {
    fs.chmodSync(join(repository.location, '..'), 0o755);
    execFileSync('chown', ['-R', 'nobody', repository.location]);
  }
  fs.mkdirSync(join(directory, 'state'));
  fs.chownSync(join(directory, 'state'), 65534, 65534);
  const child = spawn(process.execPath, [importer, repository.location, source, 'd'], {
    uid: 65534,
    env: { ...process.env, LARDER_STATE: join(directory, 'state') },
  });
  let said = '';
  child.stderr.on('data', (data) => {
    said += data;
  });
  await new Promise((resolve) => child.once('exit', resolve));
  return said;
}
