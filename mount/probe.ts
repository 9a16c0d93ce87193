import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { ByteString } from '../dataset/byte-string.ts';
import { type Digest, sha256 } from '../dataset/digest.ts';
import type { DirectoryEntry, Entry } from '../dataset/entry.ts';
import { cloneFile, flockAsync, mount, readRaw, UMOUNT, umount } from '../system/calls.ts';
import { writeImage } from './erofs/image.ts';
import { mountFuse } from './fuse/device.ts';
import { FEATURE } from './fuse/protocol.ts';
import { parseRequest } from './fuse/request.ts';
import { mountImage } from './image-mount.ts';
import { attachLoop } from './loop.ts';
import { mountOverlay } from './overlay.ts';
import { cleanLeftovers } from './unmount.ts';
import { createWorkspaceImage, MIN_WORKSPACE_BYTES, mountWorkspace } from './workspace.ts';

export type FeatureName =
  | 'mount'
  | 'loop'
  | 'erofs'
  | 'erofs-file'
  | 'overlay'
  | 'fuse'
  | 'fuse-parallel'
  | 'fuse-resend'
  | 'fuse-passthrough'
  | 'xfs'
  | 'reflink';

/** What was tried on this machine, and what follows. */
export interface Feature {
  readonly feature: FeatureName;
  /** For people: what it is. */
  readonly title: string;
  readonly have: boolean;
  /** Where it is missing: what the machine said. */
  readonly reason?: string;
  /** Where it is missing: what Larder does without it. */
  readonly instead?: string;
  /** Where it is missing: how to have it. */
  readonly remedy?: string;
}

export interface KernelReport {
  /** As `uname -r` tells it. */
  readonly kernel: string;
  /** Versions can be mounted: everything that a mount needs is there. Otherwise they are materialized. */
  readonly mounts: boolean;
  /** Workspaces can be mounted. */
  readonly workspaces: boolean;
  readonly features: readonly Feature[];
}

const facts: Record<FeatureName, { title: string; instead: string; remedy: string }> = {
  mount: {
    title: 'mounting',
    instead: 'checkout copies a version to a directory, without mounting',
    remedy: 'run as root, or give the container CAP_SYS_ADMIN (privileged: true)',
  },
  loop: {
    title: 'loop devices',
    instead: 'images are mounted directly, where the kernel can; no workspaces',
    remedy: "modprobe loop, and mount the host's /dev into the container",
  },
  erofs: {
    title: 'EROFS images',
    instead: 'versions are materialized: hydrated whole, then linked or cloned into a plain directory',
    remedy: 'modprobe erofs, or a kernel with CONFIG_EROFS_FS and CONFIG_EROFS_FS_XATTR',
  },
  'erofs-file': {
    title: 'EROFS mounted from a file without a device',
    instead: 'a loop device for each staged version',
    remedy: 'Linux 6.12 or later with CONFIG_EROFS_FS_BACKED_BY_FILE',
  },
  overlay: {
    title: 'overlayfs with data-only layers',
    instead: 'versions are materialized: hydrated whole, then linked or cloned into a plain directory',
    remedy: 'Linux 6.6 or later with CONFIG_OVERLAY_FS (modprobe overlay)',
  },
  fuse: {
    title: 'FUSE',
    instead: 'versions are materialized: hydrated whole, then linked or cloned into a plain directory',
    remedy: 'modprobe fuse, and let the container use /dev/fuse',
  },
  'fuse-parallel': {
    title: 'FUSE lookups side by side in one directory',
    instead: 'first opens of files wait for one another',
    remedy: 'Linux 4.7 or later',
  },
  'fuse-resend': {
    title: 'FUSE requests sent again to a new daemon',
    instead: 'opens that waited when a daemon died end with EIO at their deadline',
    remedy: 'Linux 6.9 or later',
  },
  'fuse-passthrough': {
    title: 'FUSE passthrough',
    instead: 'a mount that opened a large file before it was cached reads it through the daemon from then on',
    remedy: 'Linux 6.9 or later with CONFIG_FUSE_PASSTHROUGH',
  },
  xfs: {
    title: 'XFS for workspaces',
    instead: 'no workspaces; versions can be mounted read-only, and a checkout committed back',
    remedy: 'install xfsprogs, and modprobe xfs',
  },
  reflink: {
    title: "reflink on the cache's filesystem",
    instead: 'a live snapshot copies the workspace while writers wait, and materialize copies files',
    remedy: 'put the cache on XFS or btrfs',
  },
};

/** How the names of temporary directories begin. */
const PLACE = '.probe-';

/**
 * Tries what mounts need, each feature by using it, in a temporary directory of `directory` (on the cache's filesystem). Takes some
 * hundred milliseconds, and leaves nothing; what one left that was killed in the middle goes with the next. One at a time tries.
 */
export async function probeKernel({ directory }: { readonly directory: string }): Promise<KernelReport> {
  mkdirSync(directory, { recursive: true });
  const held = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await flockAsync(held, 'exclusive');
    for (const name of readdirSync(directory)) if (name.startsWith(PLACE)) await clear(join(directory, name));
    return await tryAll(mkdtempSync(join(directory, PLACE)));
  } finally {
    closeSync(held);
  }
}

async function clear(place: string): Promise<void> {
  await cleanLeftovers(place);
  rmSync(place, { recursive: true });
}

async function tryAll(place: string): Promise<KernelReport> {
  const features: Feature[] = [];
  const tryOne = async (feature: FeatureName, use: () => unknown, needs: readonly FeatureName[] = []) => {
    const missing = needs.filter((need) => !features.some((one) => one.feature === need && one.have));
    if (missing.length > 0) {
      features.push(lacking(feature, `it needs ${missing.map((need) => facts[need].title).join(' and ')}`));
      return;
    }
    try {
      await use();
      features.push({ feature, title: facts[feature].title, have: true });
    } catch (error) {
      features.push(lacking(feature, error instanceof Error ? error.message : String(error)));
    }
  };
  const folder = (name: string): string => {
    const path = join(place, name);
    mkdirSync(path, { recursive: true });
    return path;
  };

  try {
    await tryOne('mount', () =>
      mount({ source: 'larder:probe', target: folder('tmpfs'), type: 'tmpfs', data: 'size=4k' }),
    );
    await tryOne('loop', () => tryLoop(join(place, 'loop')), ['mount']);
    const image = join(place, 'tree.erofs');
    await tryOne('erofs-file', async () => {
      await writeImage({ entries: [sample], file: image });
      await mountImage({ file: image, at: folder('by-file'), via: 'file' });
    }, ['mount']);
    await tryOne('erofs', async () => {
      await writeImage({ entries: [sample], file: image });
      await mountImage({ file: image, at: folder('image') });
    }, ['mount']);
    await tryOne('overlay', () => tryOverlay(folder), ['mount', 'erofs']);
    let offered = 0n;
    await tryOne('fuse', () => {
      offered = offeredByFuse(folder('fuse'));
    }, ['mount']);
    const flag = (name: FeatureName, bit: bigint) =>
      tryOne(name, () => {
        if ((offered & bit) === 0n) throw new Error('the kernel does not offer it');
      }, ['fuse']);
    await flag('fuse-parallel', FEATURE.parallelDirectoryOperations);
    await flag('fuse-resend', FEATURE.resend);
    await flag('fuse-passthrough', FEATURE.passthrough);
    await tryOne('xfs', () => tryWorkspace(join(place, 'disk.xfs'), folder('xfs')), ['mount', 'loop']);
    await tryOne('reflink', () => tryReflink(place));
  } finally {
    await clear(place);
  }
  const have = (...names: FeatureName[]) =>
    names.every((name) => features.some((one) => one.feature === name && one.have));
  const mounts = have('mount', 'erofs', 'overlay', 'fuse');
  return { kernel: release(), mounts, workspaces: mounts && have('xfs'), features };
}

function lacking(feature: FeatureName, reason: string): Feature {
  return { feature, have: false, reason, ...facts[feature] };
}

const about = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
const root: DirectoryEntry = { type: 'directory', path: '' as ByteString, ...about };
const data = 'what the probe reads through an overlay';
const content: Digest = sha256(data);
const sample: readonly Entry[] = [
  root,
  { type: 'file', path: 'file' as ByteString, ...about, size: data.length, content: { kind: 'chunk', id: content } },
];

async function tryLoop(file: string): Promise<void> {
  writeFileSync(file, '');
  truncateSync(file, 2 ** 20);
  (await attachLoop({ file, readOnly: true }))[Symbol.dispose]();
}

/** Reads a file whose data lie in the last of the data-only layers. */
async function tryOverlay(folder: (name: string) => string): Promise<void> {
  const fan = folder(`fault/${content.slice(0, 2)}`);
  writeFileSync(join(fan, content), data);
  const layers = {
    image: folder('image'),
    objects: folder('objects'),
    wait: folder('wait'),
    late: folder('late'),
    fault: folder('fault'),
  };
  const { target } = await mountOverlay({ layers, target: folder('overlay'), name: 'probe' });
  if (readFileSync(join(target, 'file'), 'utf8') !== data) throw new Error('it gives wrong data');
  umount(target, UMOUNT.detach);
}

/** The features of the kernel's first message. It is not answered: the mount never comes to life. */
function offeredByFuse(target: string): bigint {
  const fd = mountFuse(target);
  try {
    const buffer = Buffer.alloc(65536);
    const message = parseRequest(buffer.subarray(0, readRaw(fd, buffer)));
    if (message?.op !== 'init') throw new Error('its first message is not INIT');
    return message.features;
  } finally {
    closeSync(fd);
    umount(target, UMOUNT.detach);
  }
}

async function tryWorkspace(file: string, at: string): Promise<void> {
  await createWorkspaceImage({ file, capacity: MIN_WORKSPACE_BYTES });
  const { upper } = await mountWorkspace({ file, at, root });
  writeFileSync(join(upper, 'file'), data);
}

function tryReflink(directory: string): void {
  const from = join(directory, 'from');
  writeFileSync(from, data);
  const source = openSync(from, 'r');
  const target = openSync(join(directory, 'to'), constants.O_RDWR | constants.O_CREAT);
  try {
    cloneFile(source, target);
  } finally {
    closeSync(source);
    closeSync(target);
  }
}
