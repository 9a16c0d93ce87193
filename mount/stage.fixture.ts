import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { sha256 } from '../dataset/digest.ts';
import { lsetxattr, mount, xfsShutdown } from '../system/calls.ts';
import { attachLoop } from './loop.ts';
import type { OverlayLayers } from './overlay.ts';
import { cleanLeftovers } from './unmount.ts';

/** What a test stages: directories and a real EROFS image by erofs-utils, whose large files lie in `objects/`. */
export interface Stage extends AsyncDisposable {
  readonly directory: string;
  readonly image: string;
  readonly layers: OverlayLayers;
  /** The file in `objects/` of content `data`. */
  objectPath(data: string): string;
}

export interface StageOptions {
  /** Part of every path, to try names that are hard to quote. */
  readonly name?: string;
  /** Path to content. Up to 4 bytes lie in the image. */
  readonly files: Readonly<Record<string, string>>;
  /** Contents that are not in `objects/`. */
  readonly absent?: readonly string[];
  /** Where its directory is made; that of temporary files where it is not said. */
  readonly parent?: string;
}

export function makeStage({ name = 'stage', files, absent = [], parent = tmpdir() }: StageOptions): Stage {
  const directory = mkdtempSync(join(parent, `larder ${name}-`));
  const at = (...parts: string[]) => join(directory, ...parts);
  for (const folder of ['source', 'objects', 'late', 'wait', 'fault', 'image', 'target']) mkdirSync(at(folder));
  const redirect = (data: string) => `/${sha256(data).slice(0, 2)}/${sha256(data)}`;
  const objectPath = (data: string) => join(at('objects'), redirect(data));
  for (const [path, data] of Object.entries(files)) {
    const file = at('source', path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, data.length <= 4 ? data : '');
    if (data.length <= 4) continue;
    truncateSync(file, Buffer.byteLength(data));
    lsetxattr(file, 'trusted.overlay.metacopy', Buffer.alloc(0));
    lsetxattr(file, 'trusted.overlay.redirect', Buffer.from(redirect(data)));
    if (absent.includes(data)) continue;
    mkdirSync(dirname(objectPath(data)), { recursive: true });
    writeFileSync(objectPath(data), data);
  }
  // Relative names: the directory's may hold what mkfs.erofs gives a meaning to.
  const image = at('tree.erofs');
  execFileSync('mkfs.erofs', ['--quiet', '-x1', 'tree.erofs', 'source'], { cwd: directory });
  return {
    directory,
    image,
    layers: {
      image: at('image'),
      objects: at('objects'),
      wait: at('wait'),
      late: at('late'),
      fault: at('fault'),
    },
    objectPath,
    async [Symbol.asyncDispose]() {
      await cleanLeftovers(directory);
      rmSync(directory, { recursive: true });
    },
  };
}

/** Makes every lookup in this empty directory end in EIO, as the ring's `fault/` does: an XFS that was shut down lies over it. */
export async function makeFaulty(directory: string): Promise<void> {
  const file = `${directory}.xfs`;
  writeFileSync(file, '');
  truncateSync(file, 300 * 2 ** 20);
  execFileSync('mkfs.xfs', ['-q', '-f', file]);
  using loop = await attachLoop({ file, readOnly: false });
  mount({ source: loop.path, target: directory, type: 'xfs' });
}

/** The second step, once the overlay stands. */
export function breakNow(directory: string): void {
  const fd = openSync(directory, 'r');
  xfsShutdown(fd);
  closeSync(fd);
}
