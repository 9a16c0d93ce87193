import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { keptDirectory, needPrograms, openMounter, type Peer } from './peer.ts';

const project = resolve(import.meta.dirname, 'mountpoint');
const target = join(keptDirectory(), 'mountpoint-target');
const program = join(target, 'release', 'larder-bench-mountpoint');

/** Mountpoint for Amazon S3: its libraries, with a main of ours (mountpoint/). */
export const mountpoint: Peer = {
  name: 'Mountpoint',
  async install() {
    const missing = await needPrograms('cargo=cargo', 'cmake=cmake', 'clang=clang', 'fusermount3=fuse3');
    if (missing !== undefined) return missing;
    if (!existsSync(program)) console.error('bench: building Mountpoint; the first time takes some ten minutes');
    try {
      const env = { ...process.env, CARGO_TARGET_DIR: target };
      await promisify(execFile)('cargo', ['build', '--release', '--locked', '--quiet'], {
        cwd: project,
        env,
        maxBuffer: 2 ** 26,
      });
      return undefined;
    } catch (error) {
      return `it could not be built: ${String((error as { stderr?: string }).stderr)
        .trim()
        .slice(-300)}`;
    }
  },
  async open({ directory, link, plain }) {
    return openMounter({
      bucket: plain.bucket,
      directory,
      command: (mount, cache) => [program, link.endpoint, plain.bucket, '', mount, cache],
    });
  },
};
