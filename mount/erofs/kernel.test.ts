import { createHash } from 'node:crypto';
import {
  createReadStream,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteString, bufferOf, bytesOf, fromBuffer, textOf } from '../../dataset/byte-string.ts';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import type { DirectoryEntry, Entry, FileEntry } from '../../dataset/entry.ts';
import { lgetxattr, llistxattr, UMOUNT, umount } from '../../system/calls.ts';
import { canMount } from '../../test/support/privilege.ts';
import { createRandom, type Random } from '../../test/support/random.ts';
import { mountImage } from '../image-mount.ts';
import { mountOverlay } from '../overlay.ts';
import { encodeOwner, OWNER_MARK } from '../owner-mark.ts';
import { DEFAULT_ACL, shownBy } from '../view.ts';
import { type ImageOptions, writeImage } from './image.ts';
import { sampleTree } from './testing/sample-tree.ts';

const TYPES = { file: 0o100000n, directory: 0o040000n, symlink: 0o120000n };
const ZEROS = Buffer.alloc(20_000);
const plain = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 1_700_000_000, mtimeNanos: 5 };

describe.skipIf(!canMount)('the kernel', () => {
  let folder: string;
  let file: string;
  let tree: string;
  let overlay: string;
  const layers = () => ({
    image: tree,
    objects: path.join(folder, 'objects'),
    wait: path.join(folder, 'wait'),
    late: path.join(folder, 'late'),
    fault: path.join(folder, 'fault'),
  });

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'larder-erofs-'));
    file = path.join(folder, 'image');
    tree = path.join(folder, 'tree');
    overlay = path.join(folder, 'overlay');
    for (const at of [tree, overlay, ...Object.values(layers()).slice(1)]) mkdirSync(at);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each([
    ['from a file, with name prefixes', 'file', true],
    ['from a file, without', 'file', false],
    ['from a loop device, with name prefixes', 'loop', true],
    ['from a loop device, without', 'loop', false],
  ] as const)('reads a tree as it was given: %s', async (_, via, xattrPrefixes) => {
    const entries = sampleTree({ random: createRandom(via === 'file' ? 1 : 2), entries: 6000 });
    await write(entries, { xattrPrefixes });
    await mountImage({ file, at: tree, via });
    try {
      expectSame(tree, entries, { overlay: false });
    } finally {
      umount(tree);
    }
  });

  it('reads many random trees', async () => {
    for (let seed = 10; seed < 16; seed += 1) {
      const entries = sampleTree({ random: createRandom(seed), entries: 2000 });
      await write(entries);
      await mountImage({ file, at: tree });
      try {
        expectSame(tree, entries, { overlay: false });
      } finally {
        umount(tree);
      }
    }
  });

  it('shows a tree as its view has it, each entry marked with what it is', async () => {
    const view = { uid: 70_000, mountGroup: 2000, mode: 0o750 };
    const entries = sampleTree({ random: createRandom(20), entries: 4000 });
    await write(entries, { view });
    await mountImage({ file, at: tree });
    try {
      const marked = new Map(entries.map((entry) => [entry.path, encodeOwner(entry)]));
      const shown = entries.map((entry) => ({ ...entry, ...shownBy(view, entry.type, entry) }));
      expectSame(tree, shown, { overlay: false, marked });
    } finally {
      umount(tree);
    }
  });

  it('follows every file through overlayfs to its object', async () => {
    const random = createRandom(3);
    const objects = makeObjects(layers().objects, random);
    const entries = sampleTree({ random, entries: 5000, content: () => random.pick(objects) });
    await write(entries);
    await mountImage({ file, at: tree });
    try {
      await mountOverlay({ layers: layers(), target: overlay, name: 'test' });
      try {
        expectSame(overlay, entries, { overlay: true });
        await expectContents(overlay, entries);
      } finally {
        umount(overlay);
      }
    } finally {
      umount(tree);
    }
  });

  it('finds each name, and no other, in a directory of a million', async () => {
    const count = 1_000_000;
    const name = (index: number) => `${String(index).padStart(7, '0')}.jpg` as ByteString;
    await writeImage({ entries: many(count, name), file });
    await mountImage({ file, at: tree });
    try {
      const directory = path.join(tree, 'many');
      const names = readdirSync(directory);
      expect(names.length).toBe(count);
      expect(new Set(names).size).toBe(count);
      for (let index = 0; index < count; index += 997) {
        expect(lstatSync(path.join(directory, name(index))).size).toBe(index + 1);
      }
      for (const absent of ['-', '0000000', '0000000.jpg-', '1000000.jpg', '0999999.jpf', 'zzz']) {
        expect(lstatSync(path.join(directory, absent), { throwIfNoEntry: false }), absent).toBeUndefined();
      }
    } finally {
      umount(tree);
    }
  });

  it('copies a file of the image up into a workspace, with its data', async () => {
    const [object] = makeObjects(layers().objects, createRandom(4));
    const entries: Entry[] = [
      { type: 'directory', path: bytesOf(''), ...plain },
      { type: 'file', path: bytesOf('a'), ...plain, size: object!.size, content: { kind: 'chunk', id: object!.id } },
    ];
    await write(entries, { uuid: Buffer.alloc(16, 7) });
    const upper = path.join(folder, 'upper');
    const work = path.join(folder, 'work');
    mkdirSync(upper);
    mkdirSync(work);
    await mountImage({ file, at: tree });
    try {
      await mountOverlay({ layers: layers(), target: overlay, name: 'test', writable: { upper, work } });
      try {
        const before = readFileSync(path.join(overlay, 'a'));
        expect(sha256(before)).toBe(object!.id);
        writeFileSync(path.join(overlay, 'a'), 'more', { flag: 'a' });
        expect(readFileSync(path.join(overlay, 'a')).equals(Buffer.concat([before, Buffer.from('more')]))).toBe(true);
        expect(sha256(readFileSync(path.join(layers().objects, object!.id.slice(0, 2), object!.id)))).toBe(object!.id);
      } finally {
        umount(overlay, UMOUNT.detach);
      }
    } finally {
      umount(tree);
    }
  });

  it('tells the size of the image and its inodes', async () => {
    const entries = sampleTree({ random: createRandom(5), entries: 500 });
    const { bytes, inodes } = await write(entries);
    await mountImage({ file, at: tree });
    try {
      const stats = statfsSync(tree, { bigint: true });
      expect(stats.blocks * stats.bsize).toBe(BigInt(bytes));
      expect(stats.files === BigInt(inodes) || stats.files - stats.ffree === BigInt(inodes)).toBe(true);
    } finally {
      umount(tree);
    }
  });

  function write(entries: readonly Entry[], options: Partial<ImageOptions> = {}) {
    return writeImage({ entries: [entries], file, ...options });
  }
});

function* many(count: number, name: (index: number) => ByteString): Iterable<readonly Entry[]> {
  const directory: DirectoryEntry = { type: 'directory', path: bytesOf(''), ...plain };
  yield [directory, { ...directory, path: bytesOf('many') }];
  const id = sha256('many');
  for (let start = 0; start < count; start += 1000) {
    yield Array.from({ length: 1000 }, (_, offset): FileEntry => {
      const path = `many/${name(start + offset)}` as ByteString;
      return { type: 'file', path, ...plain, size: start + offset + 1, content: { kind: 'chunk', id } };
    });
  }
}

/** Objects as the cache keeps them. */
function makeObjects(directory: string, random: Random): { id: Digest; size: number }[] {
  return Array.from({ length: 50 }, () => {
    const bytes = random.bytes(1 + random.below(20_000));
    const id = sha256(bytes);
    mkdirSync(path.join(directory, id.slice(0, 2)), { recursive: true });
    writeFileSync(path.join(directory, id.slice(0, 2), id), bytes);
    return { id, size: bytes.length };
  });
}

/** Every field that lstat gives, every xattr, every target and every name, in both directions. */
function expectSame(
  root: string,
  entries: readonly Entry[],
  { overlay, marked }: { overlay: boolean; marked?: ReadonlyMap<ByteString, Buffer> },
): void {
  const links = new Map<ByteString, { count: number; inode?: bigint }>();
  const children = new Map<string, string[]>();
  for (const entry of entries) {
    if (entry.type === 'directory') children.set(entry.path, []);
    if (entry.path !== '') children.get(parentOf(entry.path))!.push(entry.path.slice(entry.path.lastIndexOf('/') + 1));
    if (entry.type !== 'file' || entry.link === undefined) continue;
    const group = links.get(entry.link) ?? { count: 0 };
    group.count += 1;
    links.set(entry.link, group);
  }
  const inodes = new Set<bigint>();
  for (const entry of entries) {
    const at = Buffer.concat([Buffer.from(`${root}/`), bufferOf(entry.path)]);
    const { mode, uid, gid, mtimeNs, size, nlink, ino } = lstatSync(at, { bigint: true });
    const names = llistxattr(at)
      .filter((name) => name !== DEFAULT_ACL)
      .toSorted();
    const xattrs = names.map((name) => [name, hex(lgetxattr(at, Buffer.from(name, 'latin1')))]);
    const seen: unknown[] = [mode, uid, gid, mtimeNs, xattrs];
    const time = BigInt(entry.mtimeSeconds) * 1_000_000_000n + BigInt(entry.mtimeNanos);
    const given: unknown[] = [TYPES[entry.type] | BigInt(entry.mode), entry.uid, entry.gid, time];
    given.push(xattrsOf(entry, overlay, marked?.get(entry.path)));
    if (entry.type === 'directory') {
      seen.push(readdirSync(at, { encoding: 'buffer' }).map(fromBuffer).sort());
      given.push(children.get(entry.path)!.sort());
    } else if (entry.type === 'symlink') {
      seen.push(size, fromBuffer(readlinkSync(at, { encoding: 'buffer' })));
      given.push(entry.target.length, entry.target);
    } else {
      const group = entry.link === undefined ? undefined : links.get(entry.link)!;
      seen.push(size, nlink, inodes.has(ino));
      given.push(entry.size, group?.count ?? 1, group?.inode !== undefined);
      if (group !== undefined) {
        group.inode ??= ino;
        seen.push(ino);
        given.push(group.inode);
      }
      inodes.add(ino);
      const { content } = entry;
      if (content.kind === 'inline') {
        seen.push(hex(readFileSync(at)));
        given.push(hex(content.bytes));
      } else if (!overlay && entry.size < ZEROS.length) {
        // Without the layers below, what has no data in the image is a hole.
        seen.push(readFileSync(at).equals(ZEROS.subarray(0, entry.size)));
        given.push(true);
      }
    }
    // Most agree, and vitest's comparison takes a thousand times longer.
    if (plainText(seen) !== plainText(given)) expect(plainText(seen), textOf(entry.path)).toBe(plainText(given));
  }
}

function xattrsOf(entry: Entry, overlay: boolean, mark: Buffer | undefined): (string | undefined)[][] {
  const all = (entry.xattrs ?? []).map(({ name, value }) => [name as string, hex(value)]);
  if (!overlay && entry.type === 'file' && entry.content.kind !== 'inline') {
    const { id } = entry.content;
    all.push(['trusted.overlay.metacopy', '']);
    all.push(['trusted.overlay.redirect', hex(Buffer.from(`/${id.slice(0, 2)}/${id}`))]);
  }
  if (mark !== undefined) all.push([OWNER_MARK, hex(mark)]);
  return all.sort(([a], [b]) => (a! < b! ? -1 : 1));
}

function hex(bytes: Buffer | undefined): string | undefined {
  return bytes?.toString('hex');
}

function plainText(values: unknown): string {
  return JSON.stringify(values, (_, value) =>
    typeof value === 'bigint' || typeof value === 'number' ? String(value) : value,
  );
}

async function expectContents(root: string, entries: readonly Entry[]): Promise<void> {
  for (const entry of entries) {
    if (entry.type !== 'file' || entry.content.kind === 'inline') continue;
    const hash = createHash('sha256');
    const at = Buffer.concat([Buffer.from(`${root}/`), bufferOf(entry.path)]);
    for await (const piece of createReadStream(at)) hash.update(piece);
    expect(hash.digest('hex'), textOf(entry.path)).toBe(entry.content.id);
  }
}

function parentOf(of: ByteString): string {
  return of.slice(0, Math.max(0, of.lastIndexOf('/')));
}
