import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { expectLocalRight, readInOrder, streamRig, until } from '../../cache/stream/streams.fixture.ts';
import { createRandom } from '../support/random.ts';

const CHUNKS = 60;
const CHUNK_BYTES = 2_200_000;

it('goes on with what is right of a file whose reader was killed, again and again, until it is whole', async () => {
  const seed = 41;
  const random = createRandom(seed);
  const parts = Array.from({ length: CHUNKS }, () => random.bytes(CHUNK_BYTES));
  await using rig = await streamRig({ large: parts });
  const { id, bytes } = rig.version.files.get('large')!;
  const { repository, root } = rig.version.staged;
  const directory = rig.cache.layout.directory;
  const readAt = (descriptor: number, into: Buffer, position: number) => {
    expect(readSync(descriptor, into, 0, into.length, position)).toBe(into.length);
  };
  let right = 0;
  for (let round = 0; round < 4; round += 1) {
    await rig.stop();
    const script = join(import.meta.dirname, 'streamer-child.ts');
    const args = [script, repository.location, root, directory, id, String(bytes.length)];
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    const ended = once(child, 'exit');
    let reads = 0;
    const enough = 1 + random.below(4);
    child.stdout.on('data', (lines: Buffer) => {
      reads += lines.toString().split('\n').length - 1;
      if (reads >= enough) child.kill('SIGKILL');
    });
    expect((await ended)[1], `round ${round} of seed ${seed}`).toBe('SIGKILL');
    await rig.restart();
    const file = await rig.open('large');
    const now = expectLocalRight(file, bytes, readAt);
    expect(now).toBeGreaterThanOrEqual(Math.max(1, right));
    right = now;
    file.close();
  }
  const file = await rig.open('large');
  await readInOrder(file, bytes, 1_000_000);
  await until(() => file.whole() !== undefined);
  file.close();
  expect(readdirSync(join(directory, 'partial'))).toEqual([]);
}, 240_000);
