import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash, createHmac, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { acquireLock } from '../../system/lock.ts';
import { freePort } from './free-port.ts';

const VERSION = 'v1.8.0';
const MODULE = 'github.com/versity/versitygw';
const REGION = 'us-east-1';

/** Why no S3 server can run here; undefined where one can. */
export const whyNoS3Server: string | undefined =
  findProgram() !== undefined || spawnSync('go', ['version']).status === 0
    ? undefined
    : 'versitygw is installed with Go, which is not here';

/** Whether a test may start an S3 server. Where `LARDER_TEST_MOUNTS=required`, as in CI, that it may not is a failure. */
export const hasS3Server = whyNoS3Server === undefined;

if (!hasS3Server) {
  if (process.env.LARDER_TEST_MOUNTS === 'required')
    throw new Error(`the tests with an S3 server must run here: ${whyNoS3Server}`);
  console.warn(`skipped, what needs an S3 server: ${whyNoS3Server}`);
}

/** How long a test should let `startS3Server` take, in milliseconds: the first of a machine compiles the server. */
export const S3_SERVER_TIMEOUT = 900_000;

/** An S3 server on a directory: versitygw on loopback. It ends with the process that started it, however that ends. */
export interface S3Server extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly credentials: { readonly accessKey: string; readonly secretKey: string };
  /** Where it keeps its buckets: an object is the file BUCKET/KEY, with what S3 knows of it in extended attributes. */
  readonly directory: string;
  /** Makes a bucket. @returns its name, which no other has. With `versions`, the bucket keeps each object's old versions. */
  makeBucket(options?: { readonly versions?: boolean }): Promise<string>;
  /** The `s3://` location of a prefix in a bucket that is made for it. */
  location(prefix?: string): Promise<string>;
  /** The `s3://` location of a prefix in a bucket that is there. */
  locationOf(bucket: string, prefix?: string): string;
  /** One signed request, for what a test does behind the program's back. `path` is `/bucket/key?query`, escaped. */
  request(method: string, path: string, options?: S3RequestOptions): Promise<S3Answer>;
  /** Stops it as a power cut would. What it stored stays, for `restart`. */
  stop(): Promise<void>;
  /** Starts it again on the same port and directory. */
  restart(): Promise<void>;
  /** Stops it and removes its directory. */
  close(): Promise<void>;
}

export interface S3RequestOptions {
  /** With names in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

export interface S3Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: Buffer;
}

/**
 * Starts a server with an empty directory. Sets the AWS variables of this process's environment, which its children inherit, so
 * that the SDK's default chain finds this server's credentials and nothing of the user's.
 */
export async function startS3Server(): Promise<S3Server> {
  const program = await installedProgram();
  const top = mkdtempSync(join(tmpdir(), 'larder-s3-'));
  const directory = join(top, 'buckets');
  const versions = join(top, 'versions');
  mkdirSync(directory);
  mkdirSync(versions);
  const credentials = {
    accessKey: `test${randomBytes(6).toString('hex')}`,
    secretKey: randomBytes(20).toString('hex'),
  };
  setEnvironment(credentials, join(top, 'no-such-file'));
  const start = (port: number) => run({ program, port, directory, versions, top, credentials });
  let running = await startOnFreePort(start);
  const { port } = running;
  const endpoint = `http://127.0.0.1:${port}`;
  let buckets = 0;

  const server: S3Server = {
    endpoint,
    credentials,
    directory,
    makeBucket: async ({ versions = false } = {}) => {
      buckets += 1;
      const name = `bucket-${buckets}-${randomBytes(4).toString('hex')}`;
      await expectDone(await server.request('PUT', `/${name}`), `make the bucket ${name}`);
      if (versions) {
        const body = Buffer.from(
          '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>',
        );
        await expectDone(await server.request('PUT', `/${name}?versioning=`, { body }), `keep versions in ${name}`);
      }
      return name;
    },
    location: async (prefix) => server.locationOf(await server.makeBucket(), prefix),
    locationOf: (bucket, prefix) =>
      `s3://${bucket}${prefix === undefined ? '' : `/${prefix}`}?endpoint=${endpoint}&path-style=true&region=${REGION}`,
    request: (method, path, options) => signedRequest({ endpoint, credentials, method, path, ...options }),
    stop: () => running.stop(),
    restart: async () => {
      running = await start(port);
    },
    close: async () => {
      await running.stop();
      rmSync(top, { recursive: true, force: true });
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
  return server;
}

async function expectDone({ status, body }: S3Answer, what: string): Promise<void> {
  if (status >= 300) throw new Error(`the S3 server would not ${what}: ${status} ${body}`);
}

function setEnvironment({ accessKey, secretKey }: S3Server['credentials'], noFile: string): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  process.env.AWS_ACCESS_KEY_ID = accessKey;
  process.env.AWS_SECRET_ACCESS_KEY = secretKey;
  process.env.AWS_EC2_METADATA_DISABLED = 'true';
  process.env.AWS_CONFIG_FILE = noFile;
  process.env.AWS_SHARED_CREDENTIALS_FILE = noFile;
}

function cachedProgram(): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return join(cache, 'larder-test', `versitygw-${VERSION}`, 'versitygw');
}

/** The server of this version, where it is installed. */
function findProgram(): string | undefined {
  if (existsSync(cachedProgram())) return cachedProgram();
  const gopath = spawnSync('go', ['env', 'GOPATH'], { encoding: 'utf8' }).stdout?.trim();
  if (!gopath) return undefined;
  const shared = join(gopath, 'bin', 'versitygw');
  if (!existsSync(shared)) return undefined;
  const built = execFileSync('go', ['version', '-m', shared], { encoding: 'utf8' });
  return new RegExp(`^\\s*mod\\s+${MODULE}\\s+${VERSION}\\b`, 'm').test(built) ? shared : undefined;
}

async function installedProgram(): Promise<string> {
  const found = findProgram();
  if (found !== undefined) return found;
  const folder = join(cachedProgram(), '..');
  mkdirSync(folder, { recursive: true });
  using _ = await acquireLock(`${folder}.lock`, 'exclusive');
  if (!existsSync(cachedProgram())) {
    const env = { ...process.env, GOBIN: folder, GOFLAGS: '-mod=mod' };
    await promisify(execFile)('go', ['install', `${MODULE}/cmd/versitygw@${VERSION}`], { env, cwd: '/' });
  }
  return cachedProgram();
}

interface Running {
  readonly port: number;
  stop(): Promise<void>;
}

interface Run {
  readonly program: string;
  readonly port: number;
  readonly directory: string;
  readonly versions: string;
  readonly top: string;
  readonly credentials: S3Server['credentials'];
}

/** Between the look for a free port and its use another may take it: then the next. */
async function startOnFreePort(start: (port: number) => Promise<Running>): Promise<Running> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

/**
 * The server's pipe ends with this process: then the shell that reads it kills the server and removes its directory. It is told
 * `stop` where it is to leave the directory alone.
 */
const KEEPER = `
"$@" >"$0/log" 2>&1 </dev/null &
server=$!
exec 3<&0
(
  read -r word <&3
  kill -9 $server 2>/dev/null
  [ "$word" = stop ] || rm -rf "$0"
) &
wait $server
`;

async function run({ program, port, directory, versions, top, credentials }: Run): Promise<Running> {
  // Only the server that this starts knows the path: on a port that another took, the answer is 403.
  const health = `/health-${randomUUID()}`;
  const options = ['--port', `127.0.0.1:${port}`, '--keep-alive', '--quiet', '--health', health];
  const child = spawn(
    'sh',
    ['-c', KEEPER, top, program, ...options, 'posix', '--versioning-dir', versions, directory],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: { PATH: process.env.PATH, ROOT_ACCESS_KEY: credentials.accessKey, ROOT_SECRET_KEY: credentials.secretKey },
      // A signal from the terminal is for the tests; the server goes when they do.
      detached: true,
    },
  );
  let over = false;
  const ended = once(child, 'exit').then(() => {
    over = true;
  });
  child.unref();
  (child.stdin as unknown as { unref(): void }).unref();
  const stop = async () => {
    child.ref();
    child.stdin.on('error', () => {}).end('stop\n');
    await ended;
  };
  const deadline = performance.now() + 60_000;
  for (;;) {
    if (over) throw new Error(`versitygw did not start on port ${port}: ${readFileSync(join(top, 'log'), 'utf8')}`);
    const answer = await fetch(`http://127.0.0.1:${port}${health}`).catch(() => undefined);
    if (answer?.status === 200) return { port, stop };
    if (performance.now() > deadline) {
      await stop();
      throw new Error(`versitygw was not ready on port ${port} after a minute`);
    }
    await sleep(15);
  }
}

interface SignedRequest extends S3RequestOptions {
  readonly endpoint: string;
  readonly credentials: S3Server['credentials'];
  readonly method: string;
  readonly path: string;
}

/** Signature Version 4 (AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk"). */
function signedRequest({ endpoint, credentials, method, path, headers = {}, body }: SignedRequest): Promise<S3Answer> {
  const { host, hostname, port } = new URL(endpoint);
  const time = `${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}`;
  const day = time.slice(0, 8);
  const payload = createHash('sha256')
    .update(body ?? '')
    .digest('hex');
  const all: Record<string, string> = { ...headers, host, 'x-amz-content-sha256': payload, 'x-amz-date': time };
  const names = Object.keys(all).sort();
  const [resource, query = ''] = path.split('?') as [string, string?];
  const canonical = [
    method,
    resource,
    query.split('&').sort().join('&'),
    ...names.map((name) => `${name}:${all[name]}`),
    '',
    names.join(';'),
    payload,
  ].join('\n');
  const scope = `${day}/${REGION}/s3/aws4_request`;
  const digest = createHash('sha256').update(canonical).digest('hex');
  const key = [day, REGION, 's3', 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${credentials.secretKey}`,
  );
  const signature = createHmac('sha256', key).update(`AWS4-HMAC-SHA256\n${time}\n${scope}\n${digest}`).digest('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKey}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        hostname,
        port,
        method,
        path,
        agent: false,
        headers: { ...all, authorization, 'content-length': body?.length ?? 0 },
      },
      async (response) => {
        try {
          const parts: Buffer[] = [];
          for await (const part of response) parts.push(part as Buffer);
          resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts) });
        } catch (error) {
          reject(error);
        }
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}
