import { closeSync, constants, openSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { bytesOf } from '../dataset/byte-string.ts';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import {
  fsconfigCreate,
  fsconfigSet,
  fsmount,
  fsopen,
  MOUNT_ATTR,
  moveMount,
  UMOUNT,
  umount,
} from '../system/calls.ts';
import { mountAt } from './mount-table.ts';

/** The directories that make a staged version, in the order in which overlayfs asks them. */
export interface OverlayLayers {
  /** The version's tree, without data: the mount point of its EROFS image. */
  readonly image: string;
  /** Data-only, all below. The cache's objects. */
  readonly objects: string;
  /** Rings the daemon, and holds the lookup until the object is there. */
  readonly wait: string;
  /** The second name of what came late. */
  readonly late: string;
  /** Answers EIO: what nobody could fetch is an error, never "no such file". */
  readonly fault: string;
}

export interface OverlayOptions {
  readonly layers: OverlayLayers;
  /** An existing directory: what is mounted appears there at once, complete and checked. */
  readonly target: string;
  /** What the mount table calls it, after `larder:`; at most 200 bytes. */
  readonly name: string;
  /** Makes a workspace: both on one filesystem, for this mount alone. */
  readonly writable?: { readonly upper: string; readonly work: string };
  /** How layers are named to the kernel; without it, the first way that it knows. */
  readonly form?: LayerForm;
}

/**
 * - `descriptors`: an open directory each (Linux 6.13).
 * - `appended`: `lowerdir+=` and `datadir+=`, a path each (Linux 6.7).
 * - `joined`: one `lowerdir=` with `::` before each data-only layer (Linux 6.5).
 * Where a path would be long or hold a character that a form gives a meaning to, it is named as /proc/self/fd/<number>.
 */
export type LayerForm = 'descriptors' | 'appended' | 'joined';

export interface MountedOverlay {
  readonly target: string;
  readonly form: LayerForm;
  /** `major:minor`, as in the mount table. */
  readonly device: string;
}

const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
const O_PATH = 0o10000000;
/** The kernel refuses longer strings in fsconfig(2). */
const LONGEST_VALUE = 255;

/**
 * Mounts one overlay: a version, read-only, or a workspace on it. The mount is made without a place, checked there, and attached to
 * `target` last, so that nobody ever sees a wrong or half one, and a crash leaves nothing.
 */
export async function mountOverlay(options: OverlayOptions): Promise<MountedOverlay> {
  const forms: readonly LayerForm[] = options.form ? [options.form] : ['descriptors', 'appended', 'joined'];
  const refusals: unknown[] = [];
  for (const form of forms) {
    try {
      return await mountWith(form, options);
    } catch (error) {
      // A kernel that does not know a form says EINVAL, as it does for a wrong layer: then every form fails, and all are told.
      if (!isErrno(error, 'EINVAL')) throw refused(options, error);
      refusals.push(error);
    }
  }
  throw refused(options, refusals.length === 1 ? refusals[0] : new AggregateError(refusals, messages(refusals)));
}

async function mountWith(form: LayerForm, options: OverlayOptions): Promise<MountedOverlay> {
  const { layers, target, name, writable } = options;
  const open: number[] = [];
  const descriptor = (path: string): number => {
    const fd = openSync(path, O_PATH | constants.O_DIRECTORY);
    open.push(fd);
    return fd;
  };
  try {
    const context = fsopen('overlay');
    open.push(context);
    const set = (key: string, value: string) => fsconfigSet(context, { kind: 'string', key, value });
    const setDirectory = (key: string, path: string) => {
      if (form === 'descriptors') fsconfigSet(context, { kind: 'fd', key, fd: descriptor(path) });
      else set(key, plain(path) ? path : `/proc/self/fd/${descriptor(path)}`);
    };
    set('source', `larder:${name}`);
    const data = [layers.objects, layers.wait, layers.late, layers.fault];
    if (form === 'joined') {
      set('lowerdir', [layers.image, ...data].map((path) => `/proc/self/fd/${descriptor(path)}`).join('::'));
    } else {
      setDirectory('lowerdir+', layers.image);
      for (const path of data) setDirectory('datadir+', path);
    }
    if (writable) {
      setDirectory('upperdir', writable.upper);
      setDirectory('workdir', writable.work);
      // One st_dev for the whole tree, and inode numbers that stay: `find -xdev` and `du -x` see every file.
      set('xino', 'on');
      // A directory can be renamed as such; without it, rename fails with EXDEV and mv copies every file.
      set('redirect_dir', 'on');
    } else {
      fsconfigSet(context, { kind: 'flag', key: 'ro' });
      set('redirect_dir', 'follow');
    }
    // Files of the image are names and sizes whose data lies below; in a workspace, chmod need not copy data up.
    set('metacopy', 'on');
    await fsconfigCreate(context);
    const attributes = MOUNT_ATTR.noSuid | MOUNT_ATTR.noDev | (writable ? 0 : MOUNT_ATTR.readOnly);
    const tree = fsmount(context, attributes);
    open.push(tree);
    const detached = `/proc/self/fd/${tree}`;
    if (statfsSync(detached).type !== OVERLAYFS_SUPER_MAGIC)
      throw new Error(`what was made for ${target} is no overlay`);
    const { dev } = statSync(detached);
    moveMount(tree, target);
    try {
      return { target, form, device: check(options, dev) };
    } catch (error) {
      umount(target, UMOUNT.detach | UMOUNT.noFollow);
      throw error;
    }
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

/** That the mount table shows at the target what was meant; overlayfs drops options it cannot keep, with only a line in the log. */
function check({ target, name, writable }: OverlayOptions, dev: number): string {
  const record = mountAt(realpathSync(target));
  const seen = record && { ...record, options: record.options.split(',') };
  if (seen?.type !== 'overlay' || seen.source !== bytesOf(`larder:${name}`) || statSync(target).dev !== dev) {
    throw new Error(`at ${target} is now ${record ? `${record.type} ${record.source}` : 'nothing'}`);
  }
  const readOnly = seen.attributes.includes('ro');
  if (!seen.options.includes('metacopy=on') || readOnly !== (writable === undefined)) {
    throw new Error(`the overlay at ${target} has not the options it needs, but ${record?.options}`);
  }
  return seen.device;
}

function plain(path: string): boolean {
  return Buffer.byteLength(path) <= LONGEST_VALUE && !/[\\:,]/.test(path);
}

function refused({ target, layers }: OverlayOptions, cause: unknown): UnavailableError {
  const advice = isErrno(cause, 'ENODEV')
    ? 'the kernel has no overlayfs: load it (modprobe overlay)'
    : isErrno(cause, 'EPERM')
      ? 'mounting needs CAP_SYS_ADMIN: run as root'
      : isErrno(cause, 'ENOENT') || isErrno(cause, 'ENOTDIR')
        ? 'one of its directories is missing'
        : 'Linux 6.6 or later is needed; the kernel log (dmesg) has the reason';
  return new UnavailableError(
    `the overlay of ${layers.image} cannot be mounted at ${target} (${messages([cause])}): ${advice}`,
    {
      cause,
      facts: { target, image: layers.image },
    },
  );
}

function messages(errors: readonly unknown[]): string {
  return errors.map((error) => (error instanceof Error ? error.message : String(error))).join('; ');
}
