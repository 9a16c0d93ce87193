import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { readJournals } from './journal.ts';
import { type Layout, layoutOf, makeLayout, objectPath } from './layout.ts';
import { ObjectWriter, type Placed } from './object-writer.ts';
import { createRoom, openRoom, type Room } from './room.ts';

let folder: string;
let layout: Layout;
let writer: ObjectWriter;
let retired: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'larder-writer-'));
  layout = layoutOf(folder);
  makeLayout(layout);
  retired = [];
  writer = make();
});
afterEach(() => rmSync(folder, { recursive: true }));

function make(onPlaced: (placed: readonly Placed[]) => void = () => {}, room?: Room): ObjectWriter {
  return new ObjectWriter({
    layout,
    name: `w${Math.random()}`,
    bootId: 'b'.repeat(36),
    ...(room && { room }),
    onPlaced,
    onRetired: (file) => retired.push(file),
  });
}

const bytesOf = (at: number) => Buffer.from(`object ${at}`);
const idOf = (at: number): Digest => sha256(bytesOf(at));
const ids = (count: number) => Array.from({ length: count }, (_, at) => idOf(at));
/** What the journal that is open names. */
const named = () =>
  new Set(readJournals(layout.journal).flatMap(({ file, ids }) => (retired.includes(file) ? [] : [...ids()])));

describe('an object', () => {
  it('has its name in the journal that is open before it is seen, foretold or not', async () => {
    await writer.foretell(ids(10));
    expect([...named()].sort()).toEqual(ids(10).sort());
    for (let at = 0; at < 20; at += 1) writer.put(idOf(at), bytesOf(at));
    // What is named on the disk need not wait.
    expect(ids(20).filter((id) => existsSync(objectPath(layout, id)))).toEqual(ids(10));
    expect([...named()].sort()).toEqual(ids(10).sort());
    writer.flush();
    for (let at = 0; at < 20; at += 1)
      expect(readFileSync(objectPath(layout, idOf(at))).equals(bytesOf(at))).toBe(true);
    expect(named().size).toBe(20);
  });

  it('is named again where the journal that foretold it has ended', async () => {
    await writer.foretell(ids(3));
    writer.pause();
    expect(retired.length).toBe(1);
    writer.put(idOf(1), bytesOf(1));
    writer.flush();
    expect([...named()]).toEqual([idOf(1)]);
  });

  it('is named again where its journal fills up while it is written', async () => {
    await writer.foretell(ids(2));
    const file = writer.begin(idOf(0), bytesOf(0).length);
    file.write(bytesOf(0), 0);
    // Others fill the file, some at a time.
    for (let from = 100; from < 33_000; from += 4_000) {
      await writer.foretell(Array.from({ length: 4_000 }, (_, at) => sha256(`other ${from + at}`)));
    }
    expect(retired.length).toBe(1);
    file.finish(bytesOf(0).length);
    expect(existsSync(objectPath(layout, idOf(0)))).toBe(false);
    writer.flush();
    expect(existsSync(objectPath(layout, idOf(0)))).toBe(true);
    expect(named().has(idOf(0))).toBe(true);
  });

  it('that waited for its name is there when that is on the disk, and told of once', async () => {
    const told: Placed[] = [];
    writer = make((placed) => told.push(...placed));
    const foretelling = writer.foretell(ids(3));
    for (let at = 0; at < 3; at += 1) writer.put(idOf(at), bytesOf(at));
    await foretelling;
    expect(ids(3).every((id) => existsSync(objectPath(layout, id)))).toBe(true);
    writer.flush();
    writer.flush();
    expect(told.map(({ id }) => id)).toEqual(ids(3));
  });

  it('is told of soon, also where nobody asks and nothing follows', async () => {
    const told = Promise.withResolvers<readonly Placed[]>();
    writer = make(told.resolve);
    await writer.foretell(ids(1));
    writer.put(idOf(0), bytesOf(0));
    expect(await told.promise).toEqual([{ id: idOf(0), size: bytesOf(0).length }]);
  });

  it('takes its room once, though it was removed and came again before anyone was told', async () => {
    const room = openRoom(createRoom(1_000));
    const told: Placed[] = [];
    writer = make((placed) => told.push(...placed), room);
    await writer.foretell(ids(1));
    const { length } = bytesOf(0);
    writer.put(idOf(0), bytesOf(0));
    writer.put(idOf(0), bytesOf(0));
    expect(room.pending).toBe(length);
    rmSync(objectPath(layout, idOf(0)));
    writer.put(idOf(0), bytesOf(0));
    writer.flush();
    for (const { taken } of told) room.settle(taken ?? 0);
    expect(room.pending).toBe(0);
    expect(room.bytes).toBe(1_000 - 2 * length);
  });

  it('that is shown while names are foretold is there when they are', async () => {
    const foretelling = [writer.foretell([idOf(0)]), writer.foretell([idOf(1)]), writer.foretell([idOf(2)])];
    for (let at = 0; at < 3; at += 1) writer.put(idOf(at), bytesOf(at));
    writer.show();
    expect(existsSync(objectPath(layout, idOf(0)))).toBe(false);
    await Promise.all(foretelling);
    await new Promise((resolve) => setImmediate(resolve));
    for (let at = 0; at < 3; at += 1) expect(existsSync(objectPath(layout, idOf(at)))).toBe(true);
  });

  it('that could not be shown is a failure of the next flush, and leaves nothing behind', async () => {
    writer.put(idOf(0), bytesOf(0));
    rmSync(layout.journal, { recursive: true });
    writer.show();
    expect(() => writer.flush()).toThrow('ENOENT');
    expect(existsSync(objectPath(layout, idOf(0)))).toBe(false);
    const left = readdirSync(layout.incoming, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    expect(left).toEqual([]);
  });
});
