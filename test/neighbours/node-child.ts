/**
 * A node without mounts: its hydrator, and its neighbours. Reads a line of JSON (`Setup`) from stdin, and then a command a line: `read`
 * hydrates all of the version, eight at a time in an order of its own, checks it, and prints a `Report`; `end` ends it. Before each it
 * prints a line when it is ready.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openCache } from '../../cache/cache.ts';
import { createHydrator } from '../../cache/hydrate.ts';
import type { IdentityFiles } from '../../cache/neighbours/identity.ts';
import type { Deadlines } from '../../cache/neighbours/life.ts';
import { type NeighbourStats, openNeighbours } from '../../cache/neighbours/neighbours.ts';
import { stage } from '../../cache/staged.fixture.ts';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import { readSegment } from '../../dataset/manifest.ts';
import { openRepository } from '../../dataset/repository.ts';
import { createRandom } from '../support/random.ts';

export interface Setup {
  readonly location: string;
  readonly root: Digest;
  readonly cache: string;
  readonly list: string;
  readonly address: string;
  readonly port: number;
  readonly identity: IdentityFiles;
  readonly seed: number;
  readonly deadlines: Partial<Deadlines>;
}

export interface Report {
  readonly seconds: number;
  readonly objects: number;
  readonly wrong: number;
  readonly stats: NeighbourStats;
  /** Resident, in bytes. */
  readonly memory: number;
}

const READERS = 8;

const input = createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
const told = async () => (await lines.next()).value as string;

say('here');
const setup: Setup = JSON.parse(await told());
const cache = await openCache({ directory: setup.cache });
const neighbours = await openNeighbours({
  cache: setup.cache,
  source: { kind: 'file', path: setup.list },
  listen: { host: setup.address, port: setup.port },
  identity: setup.identity,
  store: { directory: join(setup.cache, 'neighbours'), limit: 2 ** 30 },
  interval: 500,
  deadlines: setup.deadlines,
  onWarning: (text) => process.stderr.write(`${text}\n`),
});
const opened = await openRepository(setup.location);
const repository = { ...opened, bucket: neighbours.share(opened.id, opened.bucket) };
const hydrator = createHydrator({ cache, threads: 1, patience: 300_000 });
say('ready');

for (let command = await told(); command === 'read'; command = await told()) {
  const began = performance.now();
  const staged = await stage(repository, setup.root);
  using _ = hydrator.register(staged);
  const ids: Digest[] = [];
  for (const segment of staged.map.segments) {
    for (const entry of await readSegment(repository, segment)) {
      if (entry.type === 'file' && entry.content.kind !== 'inline') ids.push(entry.content.id);
    }
  }
  const random = createRandom(setup.seed);
  const order = ids.map((id) => ({ id, at: random.below(2 ** 40) })).sort((a, b) => a.at - b.at);
  const next = order.values();
  let seen = 0;
  await Promise.all(
    Array.from({ length: READERS }, async () => {
      for (const { id } of next) {
        const outcome = await hydrator.hydrate(id);
        if (outcome !== 'ready') throw new Error(`object ${id}: ${outcome}`);
        seen += 1;
        if (seen === Math.floor(ids.length / 4)) say('a quarter');
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  let wrong = 0;
  // One at a time: others still ask this node.
  for (const id of ids) if (sha256(await readFile(cache.objectPath(id))) !== id) wrong += 1;
  const report: Report = {
    seconds,
    objects: ids.length,
    wrong,
    stats: neighbours.stats(),
    memory: process.memoryUsage.rss(),
  };
  say(report);
}
await hydrator.close();
await repository.bucket.close();
await neighbours.close();
await cache.close();
input.close();
process.stdin.destroy();
