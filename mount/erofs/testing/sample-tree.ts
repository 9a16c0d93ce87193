import type { ByteString } from '../../../dataset/byte-string.ts';
import { type Digest, sha256 } from '../../../dataset/digest.ts';
import type { Content, DirectoryEntry, Entry, FileEntry, SymlinkEntry, Xattr } from '../../../dataset/entry.ts';

/** What is needed of a seeded source of random numbers. */
export interface Random {
  below(limit: number): number;
  oneIn(n: number): boolean;
  pick<T>(values: readonly T[]): T;
  bytes(length: number): Buffer;
}

/** For tests: entries with everything that a file system can keep, in path order, from a seed. */
export interface SampleOptions {
  readonly random: Random;
  /** About how many entries. */
  readonly entries: number;
  /** The content of files that are not inline; without it, ids of nothing. */
  readonly content?: (random: Random) => { readonly id: Digest; readonly size: number };
}

const SIZES = [
  1,
  255,
  4095,
  4096,
  4097,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 32 + 1,
  5 * 2 ** 30,
  2 ** 40 + 12345,
  2 ** 43,
  2 ** 45 + 1,
];
const SECONDS = [
  0,
  1_700_000_000,
  1_700_000_000,
  1_700_000_000,
  -1,
  -2_208_988_800,
  2 ** 31,
  2 ** 32 + 7,
  253_402_300_799,
];
const IDS = [0, 1000, 65_535, 65_536, 4_000_000_000];
/** Bytes around those of `.`, some that are no UTF-8, and a line feed. */
const ALPHABET = '!-+.,09AZaz~\u00ff\u0080\u00c3\u00a9\u0001\n ';

export function sampleTree(options: SampleOptions): Entry[] {
  const { random } = options;
  const out: Entry[] = [];
  const links: FileEntry[] = [];
  let left = options.entries;
  const fill = (directory: string, depth: number) => {
    const names = new Set<string>();
    const count = random.oneIn(8) ? random.below(400) : random.below(12);
    for (let index = 0; index < count && left > 0; index += 1, left -= 1) names.add(sampleName(random));
    for (const name of [...names].sort()) {
      const path = (directory === '' ? name : `${directory}/${name}`) as ByteString;
      if (depth < 12 && random.oneIn(depth < 3 ? 3 : 6)) {
        out.push({ type: 'directory', path, ...sampleBase(random, true) } satisfies DirectoryEntry);
        fill(path, depth + 1);
      } else if (random.oneIn(10)) {
        const target = sampleName(random).repeat(random.oneIn(4) ? 15 : 1) as ByteString;
        out.push({ type: 'symlink', path, target, ...sampleBase(random, false) } satisfies SymlinkEntry);
      } else if (links.length > 0 && random.oneIn(12)) {
        out.push({ ...random.pick(links), path });
      } else {
        const file = sampleFile(options, path);
        if (file.link !== undefined) links.push(file);
        out.push(file);
      }
    }
  };
  out.push({ type: 'directory', path: '' as ByteString, ...sampleBase(random, true) });
  for (let index = 0; index < 40 && left > 0; index += 1) {
    const path = `t${String(index).padStart(2, '0')}` as ByteString;
    out.push({ type: 'directory', path, ...sampleBase(random, true) });
    fill(path, 1);
  }
  return out;
}

function sampleFile({ random, content }: SampleOptions, path: ByteString): FileEntry {
  const base = {
    type: 'file' as const,
    path,
    ...sampleBase(random, true),
    ...(random.oneIn(10) ? { link: path } : {}),
  };
  if (random.oneIn(4)) {
    const bytes = random.bytes(random.pick([0, 1, 100, 256, 1900, 2100, 9000]));
    return { ...base, size: bytes.length, content: { kind: 'inline', bytes } };
  }
  if (content !== undefined) {
    const { id, size } = content(random);
    return { ...base, size, content: { kind: 'chunk', id } };
  }
  const id = sha256(random.bytes(8));
  const size = random.oneIn(3) ? random.pick(SIZES) : 1 + random.below(200_000);
  const kinds: Content[] = [
    { kind: 'chunk', id },
    { kind: 'chunks', id, parts: [{ length: size }] },
    { kind: 'source', id, bucket: 'b', key: 'k', etag: 'e' },
  ];
  return { ...base, size, content: random.pick(kinds) };
}

function sampleBase(random: Random, withXattrs: boolean) {
  const xattrs = withXattrs && random.oneIn(5) ? sampleXattrs(random) : undefined;
  return {
    mode: random.oneIn(5) ? random.below(0o10000) : random.pick([0o644, 0o755, 0o4755, 0o1777]),
    uid: random.pick(IDS),
    gid: random.pick(IDS),
    mtimeSeconds: random.pick(SECONDS),
    mtimeNanos: random.oneIn(2) ? 123_456_789 : random.below(1_000_000_000),
    ...(xattrs === undefined ? {} : { xattrs }),
  };
}

function sampleXattrs(random: Random): Xattr[] {
  const xattrs = new Map<string, Buffer>();
  const count = random.oneIn(20) ? 300 : 1 + random.below(5);
  for (let index = 0; index < count; index += 1) {
    const name = random.oneIn(3) ? `user.${sampleName(random).slice(0, 249)}` : `user.label${random.below(400)}`;
    const length = count > 100 ? random.below(100) : random.pick([0, 1, 3, 60, 600, random.oneIn(10) ? 65_535 : 10]);
    xattrs.set(name, random.oneIn(2) ? Buffer.alloc(length, 'x') : random.bytes(length));
  }
  return [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => ({ name: name as ByteString, value }));
}

function sampleName(random: Random): string {
  const length = random.oneIn(20) ? 255 : 1 + random.below(30);
  let name = '';
  for (let index = 0; index < length; index += 1) name += ALPHABET[random.below(ALPHABET.length)]!;
  return name === '.' || name === '..' ? 'dots' : name;
}
