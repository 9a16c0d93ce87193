import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cleanLeftovers } from '../../mount/unmount.ts';
import { type CsiClient, connectCsi, mountCapability } from '../../test/csi/client.ts';
import { writeImages } from '../corpus.ts';
import { larderIn } from '../larder.ts';
import type { Measured } from '../measure.ts';
import { peakResident, processorSeconds, resident, withChildren } from '../processes.ts';

/** A CSI plugin as a node has it: the daemon with the controller, and the keeper, with repository, cache and volumes below one directory. */
export interface Plugin extends AsyncDisposable {
  readonly directory: string;
  readonly repository: string;
  readonly cache: string;
  readonly client: CsiClient;
  /** Runs one command of `larder` beside it. */
  run(...args: string[]): Promise<Measured>;
  /** Ends the daemon as a crash would, and starts the next. @returns seconds from its start until it answers */
  restart(): Promise<number>;
  /** What the daemon and the processes that it started have used so far, in seconds of processor time. */
  processorSeconds(): number;
  /** Resident now, in bytes: the daemon alone, and all processes together. */
  memory(): { readonly daemon: number; readonly daemonPeak: number; readonly all: number };
}

const MAIN = join(import.meta.dirname, '../../bin/larder.mjs');
export const DATASET = 'bench';
const READY_SECONDS = 120;

/** @param files of the dataset that its volumes are made of, of 1 KB each */
export async function startPlugin(directory: string, { files }: { readonly files: number }): Promise<Plugin> {
  const at = (name: string) => join(directory, name);
  const settings = { LARDER_NODE: 'a-node', CSI_ENDPOINT: `unix://${at('csi.sock')}` };
  const { run, repository, cache } = larderIn(directory, at('repository'), settings);
  await run('repository', 'init');
  mkdirSync(at('source'));
  writeImages(at('source'), files, 1000);
  await run('import', at('source'), DATASET);

  await using stack = new AsyncDisposableStack();
  const spawned = (...command: string[]) => {
    const log = openSync(at('plugin.log'), 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, MAIN, ...command], {
      stdio: ['ignore', log, log],
      env: {
        ...process.env,
        ...settings,
        LARDER_REPOSITORY: repository,
        LARDER_CACHE: cache,
        LARDER_RUNTIME: at('runtime'),
        LARDER_STATE: at('state'),
      },
    });
    closeSync(log);
    return child;
  };
  // Not the directory itself, which may be a mount point.
  for (const name of ['runtime', 'published', 'staged']) stack.defer(async () => void (await cleanLeftovers(at(name))));
  const keeper = spawned('keeper');
  stack.defer(() => end(keeper, 'SIGTERM'));
  let daemon: ChildProcess;
  const client: CsiClient = connectCsi(at('csi.sock'));
  stack.defer(() => client.close());
  const answers = () =>
    client.call('Probe').then(
      () => true,
      () => false,
    );
  const start = async () => {
    const started = performance.now();
    daemon = spawned('node', 'serve', '--controller');
    const deadline = started + READY_SECONDS * 1000;
    while (!(await answers())) {
      if (daemon.exitCode !== null || performance.now() > deadline)
        throw new Error(`the plugin did not start: ${readFileSync(at('plugin.log'), 'utf8').slice(-4096)}`);
      await sleep(10);
    }
    return (performance.now() - started) / 1000;
  };
  stack.defer(() => end(daemon, 'SIGTERM'));
  await start();
  const pids = () => withChildren([daemon.pid as number]);
  const owned = stack.move();
  return {
    directory,
    repository,
    cache,
    client,
    run,
    async restart() {
      await end(daemon, 'SIGKILL');
      return await start();
    },
    processorSeconds: () => processorSeconds(pids(), { ended: true }),
    memory() {
      const all = [...pids(), keeper.pid as number];
      const sum = all.reduce((bytes, pid) => bytes + resident(pid), 0);
      return { daemon: resident(daemon.pid as number), daemonPeak: peakResident(daemon.pid as number), all: sum };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}

export type Kind = 'workspace' | 'pinned';

const MODES = { workspace: 'SINGLE_NODE_WRITER', pinned: 'MULTI_NODE_READER_ONLY' } as const;

/** One volume of a plugin, by the calls that a cluster makes. */
export interface Volume {
  create(): Promise<void>;
  stage(): Promise<void>;
  publish(): Promise<void>;
  stats(): Promise<void>;
  unpublish(): Promise<void>;
  unstage(): Promise<void>;
  delete(): Promise<void>;
  /** The volume's id, once it is created. */
  readonly id: string;
  readonly stagingPath: string;
  readonly targetPath: string;
}

export function volumeOf(
  plugin: Plugin,
  name: string,
  kind: Kind,
  options: { readonly bytes?: number; readonly parameters?: Readonly<Record<string, string>> } = {},
): Volume {
  const volumeCapability = mountCapability(MODES[kind]);
  const stagingPath = join(plugin.directory, 'staged', name);
  const targetPath = join(plugin.directory, 'published', name);
  const call = async (method: string, request: object) => void (await plugin.client.call(method, request));
  let volumeId = '';
  return {
    get id() {
      return volumeId;
    },
    stagingPath,
    targetPath,
    async create() {
      const { volume } = await plugin.client.call('CreateVolume', {
        name,
        volumeCapabilities: [volumeCapability],
        parameters: { dataset: DATASET, ...options.parameters },
        ...(options.bytes !== undefined && { capacityRange: { requiredBytes: String(options.bytes) } }),
      });
      volumeId = volume.volumeId;
    },
    stage: () => call('NodeStageVolume', { volumeId, stagingTargetPath: stagingPath, volumeCapability }),
    publish: () =>
      call('NodePublishVolume', { volumeId, stagingTargetPath: stagingPath, targetPath, volumeCapability }),
    stats: () => call('NodeGetVolumeStats', { volumeId, volumePath: targetPath }),
    unpublish: () => call('NodeUnpublishVolume', { volumeId, targetPath }),
    unstage: () => call('NodeUnstageVolume', { volumeId, stagingTargetPath: stagingPath }),
    delete: () => call('DeleteVolume', { volumeId }),
  };
}
