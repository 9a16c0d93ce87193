import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SoakVersion } from './dataset.ts';
import type { Mounted } from './reader-protocol.ts';
import { Readers, type ReadersOptions } from './readers.ts';

const program = resolve(import.meta.dirname, '..', '..', 'bin', 'larder');

export interface SoakNodeOptions {
  readonly name: string;
  /** A file system of its own. */
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
  readonly readers: ReadersOptions;
  /** Told of a daemon or keeper that ended without being asked to. */
  readonly onDeath: (what: string) => void;
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Service {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  asked: boolean;
  /** Its last lines. */
  log: string;
}

type ServiceName = 'daemon' | 'keeper';

/** What a command ended with says that the bucket did not answer as it should. */
const BUCKET = /cannot be (read|reached)|could not be had|tried \d+ times/;

/** A command failed since the bucket was broken: it may be given again. */
export class BucketAway extends Error {}

/** A node: a cache on a small disk, its daemon and keeper, and readers of what it has mounted. */
export class SoakNode {
  readonly name: string;
  readonly directory: string;
  readonly cache: string;
  readonly runtime: string;
  readonly readers: Readers;
  readonly mounts = new Map<string, { readonly version: SoakVersion; readonly mounted: Mounted }>();
  readonly #env: Record<string, string | undefined>;
  readonly #onDeath: (what: string) => void;
  readonly #services = new Map<ServiceName, Service>();
  #serial = 0;

  constructor({ name, directory, env, readers, onDeath }: SoakNodeOptions) {
    this.name = name;
    this.directory = directory;
    this.cache = join(directory, 'cache');
    this.runtime = join(directory, 'run');
    this.readers = new Readers(readers);
    this.#onDeath = onDeath;
    this.#env = {
      ...process.env,
      ...env,
      LARDER_CACHE: this.cache,
      LARDER_RUNTIME: this.runtime,
      LARDER_STATE: join(directory, 'state'),
    };
    delete this.#env.LARDER_TEST_NAMESPACE;
  }

  /** Starts a daemon or keeper; it may not be ready yet. */
  start(name: ServiceName): void {
    const child = spawn(program, name === 'daemon' ? ['node', 'serve'] : ['keeper'], {
      env: this.#env as NodeJS.ProcessEnv,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const service: Service = { child, ended: once(child, 'exit'), asked: false, log: '' };
    const hear = (data: Buffer) => {
      service.log = (service.log + data.toString()).slice(-4000);
    };
    child.stdout!.on('data', hear);
    child.stderr!.on('data', hear);
    this.#services.set(name, service);
    void service.ended.then(() => {
      if (!service.asked) this.#onDeath(`${this.name}: the ${name} ended by itself: ${service.log.slice(-1500)}`);
    });
  }

  pid(name: ServiceName): number {
    return this.#services.get(name)!.child.pid!;
  }

  log(name: ServiceName): string {
    return this.#services.get(name)?.log ?? '';
  }

  signal(name: ServiceName, signal: NodeJS.Signals): void {
    this.#services.get(name)!.child.kill(signal);
  }

  /** Ends it by a signal and waits until it is gone. */
  async end(name: ServiceName, signal: NodeJS.Signals): Promise<void> {
    const service = this.#services.get(name);
    if (!service) return;
    service.asked = true;
    service.child.kill(signal);
    await service.ended;
  }

  /** Waits until the daemon answers and the keeper holds its ring. */
  async ready(limit: number): Promise<void> {
    const end = Date.now() + limit;
    for (;;) {
      const { status, stdout, stderr } = await this.larder('--json', 'status');
      if (status === 0 && (JSON.parse(stdout) as { keeper: boolean }).keeper) return;
      if (Date.now() > end)
        throw new Error(`${this.name} is not ready: ${status} ${stdout}${stderr}\n${this.log('daemon')}`);
      await sleep(100);
    }
  }

  async larder(...args: string[]): Promise<Ran> {
    const child = spawn(program, args, { env: this.#env as NodeJS.ProcessEnv, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    const [status] = (await once(child, 'close')) as [number | null];
    return { status, stdout, stderr };
  }

  /** Runs a command that must succeed, or end with one of the other statuses. */
  async must(args: string[], ...others: number[]): Promise<string> {
    const { status, stdout, stderr } = await this.larder(...args);
    if (status === 0 || others.includes(status ?? -1)) return stdout;
    const text = `${this.name}: larder ${args.join(' ')} ended with ${status}: ${stderr}\n${this.log('daemon')}`;
    throw BUCKET.test(stderr) ? new BucketAway(text) : new Error(text);
  }

  /** @throws where it fails; then nothing is mounted */
  async mount(version: SoakVersion): Promise<void> {
    const directory = join(this.directory, 'mounts', `${version.tag}-${this.#serial++}`);
    mkdirSync(directory, { recursive: true });
    try {
      await this.must(['mount', `soak@${version.tag}`, directory]);
    } catch (error) {
      // A mount would refuse to be removed.
      rmdirSync(directory);
      throw error;
    }
    this.mounts.set(directory, { version, mounted: { directory, source: version.source, files: version.files } });
    this.#tell();
  }

  /** Readers stop to choose it first, but may be at it. */
  async unmount(directory: string): Promise<void> {
    this.mounts.delete(directory);
    this.#tell();
    await this.must(['unmount', directory]);
  }

  isStaged(version: SoakVersion): boolean {
    return this.mounts.values().some((one) => one.version === version);
  }

  /** How many descriptors the daemon has open. */
  #tell(): void {
    this.readers.mounts = [...this.mounts.values()].map(({ mounted }) => mounted);
  }
}
