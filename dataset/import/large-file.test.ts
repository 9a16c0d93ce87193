import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { collect } from '../../test/support/collect.ts';
import { sha256 } from '../digest.ts';
import { importDirectory } from '../import.ts';
import { readEntries } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { initRepository } from '../repository.ts';
import { CHUNK_MAX, Cutter } from './chunker.ts';
import { noise } from './test-tree.ts';

const MIB = 2 ** 20;
let top: string;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'larder-large-'));
  vi.stubEnv('LARDER_STATE', join(top, 'state'));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(top, { recursive: true });
});

test('large files of every kind come back as they are: noise, text, zeros, with holes, one beside the other', async () => {
  const source = join(top, 'source');
  mkdirSync(source);
  const random = noise(40 * MIB, 1);
  const text = Buffer.alloc(30 * MIB, 'the same line of text again and again\n');
  const mixed = Buffer.concat([
    random.subarray(0, 5 * MIB),
    text.subarray(0, 9 * MIB),
    random.subarray(9 * MIB, 14 * MIB),
  ]);
  const uncut = withoutCuts(noise(34 * MIB, 2));
  writeFileSync(join(source, 'a-random'), random);
  writeFileSync(join(source, 'b-text'), text);
  writeFileSync(join(source, 'c-mixed'), mixed);
  writeFileSync(join(source, 'd-small'), random.subarray(7, 3 * MIB));
  writeFileSync(join(source, 'e-uncut'), uncut);
  const sparse = openSync(join(source, 'f-sparse'), 'w');
  writeSync(sparse, random, 0, 3 * MIB, 2 * MIB);
  writeSync(sparse, random, 0, MIB, 20 * MIB);
  ftruncateSync(sparse, 24 * MIB);
  closeSync(sparse);
  writeFileSync(join(source, 'g-again'), random);

  const repository = await initRepository(join(top, 'repository'));
  const { version } = await importDirectory({
    repository,
    source,
    dataset: 'large',
    branch: 'main',
    message: 'large files',
    author: 'a test',
  });
  for (const entry of (await collect(readEntries(repository, version.root))).flat()) {
    if (entry.type !== 'file') continue;
    const bytes = Buffer.concat(await collect(readFile(repository, entry)));
    expect(sha256(bytes), entry.path).toBe(sha256(readFileSync(join(source, entry.path))));
  }
  await repository.bucket.close();
});

/** The bytes changed so that nothing is cut before it must be: chunks as long as they may be, which do not shrink. */
function withoutCuts(bytes: Buffer): Buffer {
  for (let at = 0; at < bytes.length; ) {
    const length = new Cutter().cut(bytes.subarray(at), true);
    if (length === CHUNK_MAX || at + length === bytes.length) at += length;
    else bytes[at + length - 1]! ^= 0x55;
  }
  return bytes;
}
