import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf } from '../dataset/byte-string.ts';
import { type Digest, sha256 } from '../dataset/digest.ts';
import type { Content, FileEntry } from '../dataset/entry.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';
import { loadStageMap, type StageMap } from './stage-map.ts';
import { StageMapBuilder } from './stage-map-builder.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'larder-stage-map-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const root = sha256('root');
let files = 0;

/** @param part as the builder takes it */
function begin(part?: number): StageMapBuilder & { finished(): StageMap; readonly path: string } {
  const path = join(folder, `${files++}.map`);
  const finished = () => {
    builder.finish(root);
    return loadStageMap(path, root);
  };
  const builder = Object.assign(new StageMapBuilder(path, { part }), { finished, path });
  return builder;
}

function file(path: string, content: Content, size = 1000): FileEntry {
  return {
    type: 'file',
    path: bytesOf(path),
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanos: 0,
    size,
    content,
  };
}

function chunkFile(id: Digest, size?: number): FileEntry {
  return file(id, { kind: 'chunk', id }, size);
}

describe('a stage map', () => {
  it('finds for every content of 50,000 the segment that has it, and nothing for others', () => {
    const builder = begin();
    const places = new Map<Digest, Digest>();
    for (let segment = 0; segment < 125; segment += 1) {
      const name = sha256(`segment ${segment}`);
      const ids = Array.from({ length: 400 }, (_, at) => sha256(`file ${segment} ${at}`));
      for (const id of ids) places.set(id, name);
      builder.add(
        name,
        ids.map((id) => chunkFile(id)),
      );
    }
    const map = builder.finished();
    expect(map.size).toBe(50_000);
    for (const [id, segment] of places) expect(map.candidates(id)).toEqual([segment]);
    for (let at = 0; at < 1000; at += 1) {
      expect(map.candidates(sha256(`stranger ${at}`))).toEqual([]);
      expect(map.has(sha256(`stranger ${at}`))).toBe(false);
    }
  });

  it('names every segment in which a content stands, once each', () => {
    const builder = begin();
    const id = sha256('everywhere');
    const segments = [sha256('s1'), sha256('s2'), sha256('s3')];
    for (const segment of segments)
      builder.add(segment, [chunkFile(id, 7), chunkFile(sha256(segment), 100), chunkFile(id, 7)]);
    const map = builder.finished();
    expect(map.candidates(id)).toEqual(segments);
    expect(map.objects).toBe(4);
    expect(map.objectBytes).toBe(307);
  });

  it('gives both segments where two contents share their first eight bytes', () => {
    const builder = begin();
    const one = `0123456789abcdef${'0'.repeat(48)}` as Digest;
    const two = `0123456789abcdef${'f'.repeat(48)}` as Digest;
    const near = `0123456789abcdee${'f'.repeat(48)}` as Digest;
    builder.add(sha256('s1'), [chunkFile(two)]);
    builder.add(sha256('s2'), [chunkFile(one)]);
    builder.add(sha256('s3'), [chunkFile(near)]);
    const map = builder.finished();
    expect(map.candidates(one)).toEqual([sha256('s1'), sha256('s2')]);
    expect(map.candidates(near)).toEqual([sha256('s3')]);
    expect([...map.prefixes()]).toEqual(['0123456789abcdee', '0123456789abcdef']);
  });

  it('sorts a version of a million copies of two files as fast as any other', () => {
    const builder = begin();
    const [a, b] = ['0123456700000000', '0123456788888888'].map((start) => `${start}${'0'.repeat(48)}` as Digest);
    const entries = Array.from({ length: 1000 }, (_, at) => chunkFile(at % 2 ? a! : b!));
    for (let at = 0; at < 1000; at += 1) builder.add(sha256(`s${at}`), entries);
    const started = performance.now();
    const map = builder.finished();
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(map.size).toBe(2000);
    expect(map.objects).toBe(2);
  });

  it('leaves out what has no object: directories, links, inline files', () => {
    const builder = begin();
    const { path, mode, uid, gid, mtimeSeconds, mtimeNanos } = chunkFile(root);
    const base = { path, mode, uid, gid, mtimeSeconds, mtimeNanos };
    builder.add(sha256('s'), [
      { ...base, type: 'directory' },
      { ...base, type: 'symlink', target: bytesOf('x') },
      file('tiny', { kind: 'inline', bytes: Buffer.from('hello') }, 5),
      file('large', { kind: 'chunks', id: sha256('large'), parts: [{ length: 5_000_000_000 }] }, 5_000_000_000),
    ]);
    const map = builder.finished();
    expect(map.size).toBe(1);
    expect(map.has(sha256('large'))).toBe(true);
    expect(map.objectBytes).toBe(5_000_000_000);
  });

  it('is empty for a version without files', () => {
    const map = begin().finished();
    expect(map.candidates(sha256('x'))).toEqual([]);
    expect(map.size).toBe(0);
    expect([...map.prefixes()]).toEqual([]);
  });

  it('is the same file, whether it was sorted whole or by parts', () => {
    const whole = begin();
    const parts = begin(700);
    for (let segment = 0; segment < 20; segment += 1) {
      // Some contents stand in several segments, and so in several parts.
      const entries = Array.from({ length: 400 }, (_, at) => chunkFile(sha256(`file ${(segment * 317 + at) % 5000}`)));
      for (const builder of [whole, parts]) builder.add(sha256(`segment ${segment}`), entries);
    }
    whole.finish(root);
    parts.finish(root);
    expect(readFileSync(parts.path).equals(readFileSync(whole.path))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.includes('.tmp'))).toEqual([]);
  });

  it('finds what it has among thousands of keys that begin alike', () => {
    const builder = begin();
    const id = (at: number) => `00000000${String(at * 2).padStart(8, '0')}${'0'.repeat(48)}` as Digest;
    const everywhere = id(2_500);
    for (let segment = 0; segment < 10; segment += 1) {
      const entries = Array.from({ length: 500 }, (_, at) => chunkFile(id(segment * 500 + at)));
      builder.add(sha256(`s${segment}`), [...entries, chunkFile(everywhere)]);
    }
    for (let segment = 10; segment < 3000; segment += 1) builder.add(sha256(`s${segment}`), [chunkFile(everywhere)]);
    const map = builder.finished();
    for (let at = 0; at < 5000; at += 1) {
      expect(map.candidates(id(at))[0]).toBe(at === 2_500 ? sha256('s0') : sha256(`s${Math.floor(at / 500)}`));
      expect(map.has(`${id(at).slice(0, 15)}1${'0'.repeat(48)}` as Digest)).toBe(false);
    }
    expect(map.candidates(everywhere)).toHaveLength(3000);
  });

  it('is only opened for its own manifest', () => {
    const builder = begin();
    builder.add(sha256('s1'), [chunkFile(sha256('a'), 5)]);
    builder.finish(root);
    expect(() => loadStageMap(builder.path, sha256('another'))).toThrow(InvalidError);
  });

  it('cannot be asked after it was closed, rather than answer that it has nothing', () => {
    const builder = begin();
    builder.add(sha256('s1'), [chunkFile(sha256('a'), 5)]);
    const map = builder.finished();
    map.close();
    map.close();
    expect(() => map.has(sha256('a'))).toThrow('was closed');
  });

  it('finds any bit flipped, refuses a file cut anywhere or longer', async () => {
    const builder = begin();
    builder.add(sha256('s1'), [chunkFile(sha256('a'), 5), chunkFile(sha256('b'), 6)]);
    builder.finish(root);
    const good = readFileSync(builder.path);
    const path = join(folder, 'bad.map');
    const opened = async () => {
      const map = loadStageMap(path, root);
      try {
        await map.check();
      } finally {
        map.close();
      }
    };
    writeFileSync(path, good);
    await opened();
    for (let at = 0; at < good.length; at += 1) {
      const flipped = Buffer.from(good);
      flipped[at]! ^= 1 << (at % 8);
      writeFileSync(path, flipped);
      await expect(opened()).rejects.toThrow(CorruptError);
      writeFileSync(path, good.subarray(0, at));
      expect(() => loadStageMap(path, root)).toThrow(CorruptError);
    }
    writeFileSync(path, Buffer.concat([good, Buffer.alloc(12)]));
    expect(() => loadStageMap(path, root)).toThrow(CorruptError);
  });
});
