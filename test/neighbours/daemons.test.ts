import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type Started } from '../cli/support.ts';
import { type BreakingProxy, startBreakingProxy } from '../support/breaking-proxy.ts';
import { makeAuthority } from '../support/certificates.ts';
import { freePort } from '../support/free-port.ts';
import { canMount } from '../support/privilege.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const { directory, env, start } = createWorld();
const source = join(directory, 'source');
const files = new Map<string, Buffer>();

let server: S3Server;
let proxy: BreakingProxy;

beforeAll(async () => {
  if (!canMount || !hasS3Server) return;
  server = await startS3Server();
  proxy = await startBreakingProxy(server.endpoint);
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) env[name] = process.env[name];
  env.LARDER_REPOSITORY = proxy.location(await server.location('shared'));
  const random = createRandom(5);
  mkdirSync(source);
  for (let at = 0; at < 60; at++) files.set(`file-${at}`, random.bytes(100_000));
  for (const [name, bytes] of files) writeFileSync(join(source, name), bytes);
  await done('repository', 'init');
  await done('import', source, 'birds');
}, S3_SERVER_TIMEOUT);

afterAll(async () => {
  await proxy?.close();
  await server?.close();
});

/** Runs the program while this process, in which the proxy is, goes on. */
async function done(...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await start(args).ended;
  if (status !== 0) throw new Error(`larder ${args.join(' ')} ended with ${status}: ${stderr}`);
  return stdout;
}

interface Daemon {
  readonly name: string;
  readonly env: NodeJS.ProcessEnv;
  readonly started: Started;
}

describe.skipIf(!canMount || !hasS3Server)("nodes' daemons with a list of neighbours", () => {
  it('mount and read one version for little more than one reading of the bucket', { timeout: 120_000 }, async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const list = join(directory, 'nodes');
    writeFileSync(list, ports.map((port) => `127.0.0.1:${port}\n`).join(''));
    const { certificate, key, authority } = makeAuthority(directory, 'authority').issue();
    const daemons: Daemon[] = [];
    for (const [at, port] of ports.entries()) {
      const own = {
        LARDER_CACHE: join(directory, `cache-${at}`),
        LARDER_RUNTIME: join(directory, `run-${at}`),
        LARDER_NEIGHBOURS: `file:${list}`,
        LARDER_NEIGHBOUR_LISTEN: `127.0.0.1:${port}`,
        LARDER_NEIGHBOUR_CERT: certificate,
        LARDER_NEIGHBOUR_KEY: key,
        LARDER_NEIGHBOUR_CA: authority,
      };
      daemons.push({ name: `node-${at}`, env: own, started: start(['node', 'serve'], own) });
    }
    try {
      for (const { env: own, started } of daemons) {
        while (!existsSync(join(own.LARDER_RUNTIME!, 'node.pid'))) {
          await Promise.race([sleep(50), started.ended.then((end) => Promise.reject(new Error(end.stderr)))]);
        }
      }
      // Staged everywhere first: a node serves what it has open.
      for (const { name, env: own } of daemons) {
        const { status, stderr } = await start(['mount', 'birds', join(directory, name)], own).ended;
        expect(status, stderr).toBe(0);
      }
      proxy.reset();
      await Promise.all(
        daemons.map(async ({ name }) => {
          for (const [file, bytes] of files)
            expect((await readFile(join(directory, name, file))).equals(bytes), `${name} ${file}`).toBe(true);
        }),
      );
      const received = proxy.total('GetObject').received;
      const all = [...files.values()].reduce((sum, { length }) => sum + length, 0);
      expect(received).toBeGreaterThan(all * 0.99);
      expect(received).toBeLessThan(all * 1.05);
      const { stdout } = await start(['status', '--json'], daemons[0]!.env).ended;
      expect(JSON.parse(stdout).state.neighbours).toMatchObject({ self: `127.0.0.1:${ports[0]}` });
      for (const { name, env: own } of daemons) {
        const { status, stderr } = await start(['unmount', join(directory, name)], own).ended;
        expect(status, stderr).toBe(0);
      }
    } finally {
      for (const { started } of daemons) started.kill('SIGTERM');
      await Promise.all(daemons.map(({ started }) => started.ended));
    }
  });

  it('do not start with settings that make no sense, and name the variable', async () => {
    const { status, stderr } = await start(['node', 'serve'], { LARDER_NEIGHBOURS: 'somewhere' }).ended;
    expect(status).not.toBe(0);
    expect(stderr).toContain('LARDER_NEIGHBOURS must be file:/PATH');
  });
});
