import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRegistry } from '../../cli/registry.ts';
import type { Volume } from '../../controller/volume.ts';
import { createVolume, readVolume } from '../../controller/volumes.ts';
import type { Digest } from '../../dataset/digest.ts';
import { importDirectory } from '../../dataset/import.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readFile } from '../../dataset/read-file.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';
import { cleanLeftovers } from '../../mount/unmount.ts';
import { createLogger } from '../../node/log.ts';
import { type Node, type NodeOptions, openNode } from '../../node/node.ts';
import { nodeServiceOf } from '../../node/service.ts';

export const GIVE_UP = 2_000;
/** What the dataset of a test holds. */
export const FIRST = { a: 'first a', b: 'first b', 'folder/c': 'first folder/c' };

/** The files in which a node keeps workspaces. */
export function workspacesOf({ cache }: { readonly cache: string }): string[] {
  return readdirSync(join(cache, 'workspaces')).sort();
}

/** Nodes on one repository, all in this process, and volumes of it. */
export interface Nodes extends AsyncDisposable {
  readonly directory: string;
  readonly repository: Repository;
  /** Opens a node, anew if it was closed. */
  open(name: string, options?: Partial<NodeOptions>): Promise<TestNode>;
  /** A workspace of a dataset with some files. */
  workspace(name: string, settings?: Volume['settings']): Promise<Volume>;
  read(id: string): Promise<Volume>;
  /** What a version holds: paths with their text. */
  content(version: Digest): Promise<Record<string, string>>;
  log(): string;
}

export interface TestNode {
  readonly node: Node;
  readonly cache: string;
  /** Where volumes are staged. */
  at(volume: Volume): string;
  stage(volume: Volume): Promise<string>;
  unstage(volume: Volume): Promise<void>;
  close(): Promise<void>;
  /** All its mounts go, and its runtime directory, as when the machine is started again. */
  reboot(): Promise<void>;
}

export interface NodesOptions {
  /** Where nodes have their caches, if not in the test's own directory. */
  readonly cache?: string;
  /** Of the repository, which is made there; if not a directory of the test's own. */
  readonly location?: string;
}

export async function createNodes(options: NodesOptions = {}): Promise<Nodes> {
  const directory = mkdtempSync(join(tmpdir(), 'larder-saves-'));
  const { LARDER_STATE } = process.env;
  process.env.LARDER_STATE = join(directory, 'state');
  const { location = join(directory, 'repository') } = options;
  if (options.location === undefined) mkdirSync(location);
  const repository = await initRepository(location);
  const source = join(directory, 'source');
  mkdirSync(join(source, 'folder'), { recursive: true });
  for (const name of ['a', 'b', 'folder/c']) writeFileSync(join(source, name), `first ${name}`);
  await importDirectory({ repository, source, dataset: 'set', branch: 'main', message: '', author: 'a test' });
  const open = new Set<Node>();
  let log = '';
  const logger = createLogger({ component: 'node', format: 'text', write: (text) => (log += text) });

  return {
    directory,
    repository,

    async open(name, more) {
      const place = (part: string) => join(options.cache ?? directory, `${name}-${part}`);
      const runtime = join(directory, `${name}-runtime`);
      const node = await openNode({
        runtime,
        cache: place('cache'),
        registry: createRegistry(name, { heartbeat: 300, giveUp: GIVE_UP }),
        autosave: 500,
        log: logger.with({ node: name }),
        ...more,
      });
      open.add(node);
      const service = nodeServiceOf(node.volumes, repository.location);
      const at = ({ id }: Volume) => join(directory, `${name}-at-${id}`);
      const close = async () => {
        if (open.delete(node)) await node.close();
      };
      return {
        node,
        cache: place('cache'),
        at,
        async stage(volume) {
          const { id, dataset, version, kind, capacityBytes, settings } = await readVolume(repository, volume.id);
          const { autosave } = settings;
          const what = { volume: id, dataset, version, kind, capacityBytes, stagingPath: at(volume) };
          await service.stage({ ...what, ...(autosave !== undefined && { autosave }) });
          return at(volume);
        },
        unstage: (volume) => service.unstage(volume.id, at(volume)),
        close,
        async reboot() {
          await close();
          for (const { mountPoint } of mountedBelow(directory).filter((each) => each.mountPoint.includes(`/${name}-`)))
            await cleanLeftovers(mountPoint);
          rmSync(runtime, { recursive: true });
        },
      };
    },

    workspace: (name, settings) =>
      createVolume(repository, {
        name,
        kind: 'workspace',
        source: { dataset: 'set' },
        capacity: { required: 300 * 2 ** 20 },
        ...(settings && { settings }),
      }),

    read: (id) => readVolume(repository, id),

    async content(version) {
      const { root } = await readVersion(repository, version);
      const found: Record<string, string> = {};
      for await (const batch of readEntries(repository, root))
        for (const entry of batch) {
          if (entry.type !== 'file') continue;
          const parts: Buffer[] = [];
          for await (const part of readFile(repository, entry)) parts.push(part);
          found[entry.path] = Buffer.concat(parts).toString();
        }
      return found;
    },

    log: () => log,

    async [Symbol.asyncDispose]() {
      for (const node of open) await node.close();
      await cleanLeftovers(directory);
      if (options.cache !== undefined) await cleanLeftovers(options.cache);
      logger[Symbol.dispose]();
      await repository.bucket.close();
      if (LARDER_STATE === undefined) delete process.env.LARDER_STATE;
      else process.env.LARDER_STATE = LARDER_STATE;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export function mountedBelow(directory: string): { readonly mountPoint: string }[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => ({ mountPoint: line.split(' ')[1] ?? '' }))
    .filter(({ mountPoint }) => mountPoint.startsWith(`${directory}/`))
    .reverse();
}

type Found<T> = Exclude<T, undefined | false>;

/** Waits until it is so. */
export async function until<T>(what: string, look: () => T | Promise<T>, patience = 20_000): Promise<Found<T>> {
  const end = performance.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found as Found<T>;
    if (performance.now() > end) throw new Error(`it did not come to pass within ${patience} ms: ${what}`);
    await sleep(50);
  }
}
