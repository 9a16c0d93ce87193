import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesOf } from '../../../dataset/byte-string.ts';
import { type Digest, sha256 } from '../../../dataset/digest.ts';
import type { Entry } from '../../../dataset/entry.ts';
import { isErrno } from '../../../dataset/errors.ts';
import { writeImage } from '../../erofs/image.ts';
import { mountImage } from '../../image-mount.ts';
import { mountOverlay } from '../../overlay.ts';
import { cleanLeftovers, unmount } from '../../unmount.ts';

/** One file of the tree, by the bytes it shall have. Files of equal bytes share an object. */
export interface RigFile {
  readonly name: string;
  readonly id: Digest;
  readonly size: number;
}

/** The directories that a staged version is mounted from, with a real image of `files`. */
export interface Rig {
  readonly root: string;
  /** Where the ring is to be mounted. */
  readonly ring: string;
  /** Mounts an overlay of the tree; the ring must be served by then. */
  overlay(name: string): Promise<string>;
  unmount(overlay: string): Promise<void>;
  cleanup(): Promise<void>;
}

export async function createRig(files: readonly RigFile[]): Promise<Rig> {
  const root = mkdtempSync(join(tmpdir(), 'larder-ring-'));
  const at = (name: string) => join(root, name);
  for (const name of ['meta', 'objects', 'late', 'incoming', 'ring']) mkdirSync(at(name));
  for (const layer of ['objects', 'late'])
    for (let value = 0; value < 256; value += 1) mkdirSync(join(at(layer), value.toString(16).padStart(2, '0')));
  const common = { uid: 0, gid: 0, mtimeSeconds: 1, mtimeNanos: 0 };
  const entries: Entry[] = [{ type: 'directory', path: bytesOf(''), mode: 0o755, ...common }];
  for (const { name, id, size } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1)))
    entries.push({ type: 'file', path: bytesOf(name), mode: 0o644, size, content: { kind: 'chunk', id }, ...common });
  await writeImage({ entries: [entries], file: at('image') });
  await mountImage({ file: at('image'), at: at('meta') });
  return {
    root,
    ring: at('ring'),
    async overlay(name) {
      mkdirSync(at(name));
      const layers = {
        image: at('meta'),
        objects: at('objects'),
        wait: at('ring/wait'),
        late: at('late'),
        fault: at('ring/fault'),
      };
      return (await mountOverlay({ layers, target: at(name), name })).target;
    },
    async unmount(overlay) {
      await unmount(overlay);
    },
    async cleanup() {
      await cleanLeftovers(root);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

export function rigFile(name: string, data: Buffer): RigFile {
  return { name, id: sha256(data), size: data.length };
}

let serial = 0;

/** Stores an object below `root` as the cache does: a temporary name, fsync, a rename, and its other names as links. */
export function storeObject(
  root: string,
  data: Buffer,
  layers: readonly ('objects' | 'late')[] = ['objects', 'late'],
): Digest {
  const id = sha256(data);
  const path = (layer: string) => join(root, layer, id.slice(0, 2), id);
  const temporary = join(root, 'incoming', `${process.pid}-${serial++}`);
  const fd = openSync(temporary, 'wx');
  writeSync(fd, data);
  fsyncSync(fd);
  closeSync(fd);
  const [first, ...others] = layers;
  renameSync(temporary, path(first!));
  for (const layer of others) {
    try {
      linkSync(path(first!), path(layer));
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
  }
  return id;
}
