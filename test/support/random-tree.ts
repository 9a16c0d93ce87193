import { type ByteString, bytesOf, fromBuffer } from '../../dataset/byte-string.ts';
import { sha256 } from '../../dataset/digest.ts';
import type { Content, Entry, Part, Xattr } from '../../dataset/entry.ts';
import { partsId, partsSize } from '../../dataset/format/parts.ts';
import { sourceContent } from '../../dataset/format/source.ts';
import { comparePaths, joinPath } from '../../dataset/path.ts';
import type { Random } from './random.ts';

/** A tree of about `size` entries with everything that an entry can have, in path order. */
export function randomTree(random: Random, size: number): Entry[] {
  const entries = new Map<ByteString, Entry>();
  const directories: ByteString[] = ['' as ByteString];
  entries.set('' as ByteString, randomDirectory(random, '' as ByteString));
  while (entries.size < size) {
    const path = joinPath(random.pick(directories), randomName(random));
    if (entries.has(path)) continue;
    const entry = random.oneIn(8) ? randomDirectory(random, path) : randomLeaf(random, path);
    entries.set(path, entry);
    if (entry.type === 'directory') directories.push(path);
  }
  return [...entries.values()].sort((a, b) => comparePaths(a.path, b.path));
}

export function randomDirectory(random: Random, path: ByteString): Entry {
  return { type: 'directory', ...attributes(random, path) };
}

/** A file or a symbolic link. */
export function randomLeaf(random: Random, path: ByteString): Entry {
  const base = attributes(random, path);
  if (random.oneIn(12)) return { type: 'symlink', ...base, target: randomName(random) };
  const content = randomContent(random);
  return { type: 'file', ...base, ...content, ...(random.oneIn(15) ? { link: path } : {}) };
}

/** Names that are not UTF-8, or sort around `/`, are among them. */
export function randomName(random: Random): ByteString {
  if (random.oneIn(10)) {
    const bytes = random.bytes(1 + random.below(20));
    for (let i = 0; i < bytes.length; i++)
      if (bytes[i] === 0 || bytes[i] === 0x2f || bytes[i] === 0x2e) bytes[i] = 0x2d;
    return fromBuffer(bytes);
  }
  if (random.oneIn(50)) return bytesOf('n'.repeat(255));
  const stem = random.pick(['image', 'train', 'a', 'a-b', 'a.b', 'a0', 'größe', 'x y', 'label']);
  return bytesOf(`${stem}${random.below(100_000)}${random.pick(['', '.jpg', '.json', '-1'])}`);
}

function randomContent(random: Random): { size: number; content: Content } {
  const kind = random.below(20);
  if (kind < 3) {
    const bytes = random.bytes(random.pick([0, 1, 17, 256]));
    return { size: bytes.length, content: { kind: 'inline', bytes } };
  }
  if (kind < 5) {
    const parts: Part[] = [];
    const count = 2 + random.below(5);
    for (let i = 0; i < count; i++) {
      const isHole = random.oneIn(3) && parts.at(-1)?.chunk !== undefined;
      const length = 1 + random.below(8 * 1024 * 1024);
      parts.push(isHole ? { length } : { length, chunk: sha256(random.bytes(8)) });
    }
    return { size: partsSize(parts), content: { kind: 'chunks', id: partsId(parts), parts } };
  }
  const size = 1 + random.below(random.pick([1000, 200_000, 2 ** 40]));
  if (kind === 5) {
    const version = random.oneIn(2) ? undefined : 'v1';
    return { size, content: sourceContent({ bucket: 'raw', key: `k/${random.below(1000)}`, etag: '"e"', version }) };
  }
  return { size, content: { kind: 'chunk', id: sha256(random.bytes(8)) } };
}

function attributes(random: Random, path: ByteString) {
  const xattrs: Xattr[] | undefined = random.oneIn(20)
    ? [
        { name: bytesOf('user.a'), value: random.bytes(random.below(40)) },
        { name: bytesOf('user.label'), value: random.bytes(random.below(4)) },
      ]
    : undefined;
  return {
    path,
    mode: random.pick([0o644, 0o755, 0o600, 0o4755, 0]),
    uid: random.pick([0, 1000, 4_294_967_294]),
    gid: random.pick([0, 1000]),
    mtimeSeconds: random.oneIn(30)
      ? random.pick([-1, -(2 ** 40), 2 ** 45, 0])
      : 1_700_000_000 + random.below(10_000_000),
    mtimeNanos: random.oneIn(2) ? 0 : random.below(1_000_000_000),
    ...(xattrs === undefined ? {} : { xattrs }),
  };
}
