import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteString, textOf } from '../../dataset/byte-string.ts';
import { commitChanges } from '../../dataset/commit.ts';
import { log } from '../../dataset/history.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readBranch } from '../../dataset/refs.ts';
import { initRepository, openRepository, type Repository } from '../../dataset/repository.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { readVersion, type Version } from '../../dataset/version.ts';
import { randomFaults, startBreakingProxy } from '../support/breaking-proxy.ts';
import { collect } from '../support/collect.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';
import { pathOf, type Try } from './committers-child.ts';

const child = join(import.meta.dirname, 'committers-child.ts');

let server: S3Server;
let top: string;

beforeAll(async () => {
  if (!hasS3Server) return;
  server = await startS3Server();
  top = mkdtempSync(join(tmpdir(), 'larder-committers-'));
  process.env.LARDER_STATE = join(top, 'state');
}, S3_SERVER_TIMEOUT);

afterAll(async () => {
  if (!hasS3Server) return;
  delete process.env.LARDER_STATE;
  await server.close();
  rmSync(top, { recursive: true, force: true });
});

/** Processes with `each` committers, all of them ready. */
async function committers(location: string, processes: number, each: number) {
  const running = Array.from({ length: processes }, (_, at) => {
    const run = spawn(process.execPath, [child, location, 'd', String(at * each), String(each)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let said = '';
    run.stderr.on('data', (data) => {
      said += data;
    });
    const ended = new Promise<void>((resolve, reject) =>
      run.once('exit', (code) =>
        code === 0 ? resolve() : reject(new Error(`committers ended with ${code}: ${said}`)),
      ),
    );
    // Whoever reads its lines hears of it.
    ended.catch(() => {});
    return { run, ended, lines: createInterface({ input: run.stdout })[Symbol.asyncIterator]() };
  });
  const linesUntil = async ({ ended, lines }: (typeof running)[number], last: string): Promise<string[]> => {
    const found: string[] = [];
    for (;;) {
      const { value, done } = await lines.next();
      if (done) {
        await ended;
        throw new Error(`committers ended before they said '${last}'`);
      }
      if (value === last) return found;
      found.push(value);
    }
  };
  await Promise.all(running.map((each) => linesUntil(each, 'ready')));
  return {
    tries: async (how: 'race' | 'retry'): Promise<Try[]> => {
      for (const { run } of running) run.stdin.write(`${how}\n`);
      const said = await Promise.all(running.map((each) => linesUntil(each, 'done')));
      return said.flat().map((line) => JSON.parse(line) as Try);
    },
    end: async () => {
      for (const { run } of running) run.stdin.end();
      await Promise.all(running.map(({ ended }) => ended));
    },
  };
}

/** A repository with one version of an empty directory, on `main` of `d`. */
async function begin(location: string): Promise<{ repository: Repository; first: Version }> {
  const repository = await initRepository(location);
  const root = {
    type: 'directory',
    path: '' as ByteString,
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanos: 0,
  } as const;
  const { version } = await commitChanges({
    repository,
    dataset: 'd',
    branch: 'main',
    base: undefined,
    changes: (async function* () {
      yield [{ kind: 'put' as const, entry: root }];
    })(),
    author: 'a test',
    message: 'first',
  });
  return { repository, first: version };
}

/** History is a line from the first version on, of exactly the versions that landed, and each has all that landed before it. */
async function expectLinear(repository: Repository, first: Version, landed: readonly Try[]): Promise<void> {
  const head = (await readBranch(repository, 'd', 'main'))!;
  const versions = await collect(log(repository, head.version));
  expect(versions.map(({ parents }) => parents.length)).toEqual([...landed.map(() => 1), 0]);
  expect(versions.at(-1)!.id).toBe(first.id);
  for (const [at, { parents }] of versions.slice(0, -1).entries()) expect(parents[0]).toBe(versions[at + 1]!.id);
  expect(
    versions
      .slice(0, -1)
      .map(({ id }) => id as string)
      .sort(),
  ).toEqual(landed.map(({ version }) => version!).sort());
  const paths = async ({ root }: Version) =>
    (await collect(readEntries(repository, root)))
      .flat()
      .map(({ path }) => textOf(path))
      .filter((path) => path !== '');
  const made = versions.map(({ message }) => message).slice(0, -1);
  expect(await paths(await readVersion(repository, head.version))).toEqual([...made].sort());
  const middle = made.length >> 1;
  expect(await paths(versions[middle]!)).toEqual(made.slice(middle).sort());
  expect(await collect(verifyRepository(repository, { deep: true }))).toEqual([]);
}

describe.skipIf(!hasS3Server)('a hundred committers to one branch on S3', () => {
  const allowed = { timeout: 300_000 };

  it('each land or get the conflict, and lose nothing; those that try again all land', allowed, async () => {
    const { repository, first } = await begin(await server.location('race'));
    const all = await committers(repository.location, 5, 20);
    const raced = await all.tries('race');
    expect(raced).toHaveLength(100);
    const landed = raced.filter(({ version }) => version !== undefined);
    const lost = raced.filter(({ conflict }) => conflict !== undefined);
    expect(landed.length + lost.length).toBe(100);
    // It was a race: some had to lose it.
    expect(landed.length).toBeGreaterThan(0);
    expect(lost.length).toBeGreaterThan(0);
    for (const { conflict } of lost) expect(conflict).toMatch(/moved by someone else.*run the same command again/);
    await expectLinear(repository, first, landed);

    const retried = await all.tries('retry');
    await all.end();
    const now = [...landed, ...retried.filter(({ version }) => version !== undefined)];
    expect(now.map(({ committer }) => pathOf(committer)).sort()).toEqual(
      Array.from({ length: 100 }, (_, at) => pathOf(at)),
    );
    await expectLinear(repository, first, now);
    await repository.bucket.close();
  });

  it('find out that they won where the answer to the move was lost', allowed, async () => {
    const { repository: direct, first } = await begin(await server.location('lost-answers'));
    await using proxy = await startBreakingProxy(server.endpoint);
    const faults = randomFaults(createRandom(1), { every: 4, kinds: ['lose-answer', 'reset', 'error', 'slow-down'] });
    // Each fourth conditional write is broken, most of them after they were done: eight in a row is the most that a client bears.
    proxy.plan = (request) => (request.conditional ? faults(request) : undefined);
    const all = await committers(proxy.location(direct.location), 3, 8);
    const tries = await all.tries('retry');
    await all.end();
    const landed = tries.filter(({ version }) => version !== undefined);
    expect(landed).toHaveLength(24);
    expect(proxy.faults.get('lose-answer')).toBeGreaterThan(5);
    const repository = await openRepository(direct.location);
    await expectLinear(repository, first, landed);
    await repository.bucket.close();
    await direct.bucket.close();
  });
});
