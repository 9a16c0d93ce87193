import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { keptDirectory, needPrograms, openMounter, type Peer } from './peer.ts';

const project = resolve(import.meta.dirname, 'mountpoint');
const target = join(keptDirectory(), 'mountpoint-target');
const program = join(target, 'release', 'larder-bench-mountpoint');

/** Whether the program is newer than all that it is built from. */
function isBuilt(): boolean {
  const sources = ['Cargo.toml', 'Cargo.lock', join('src', 'main.rs')].map(
    (name) => statSync(join(project, name)).mtimeMs,
  );
  return existsSync(program) && statSync(program).mtimeMs > Math.max(...sources);
}

/** Mountpoint for Amazon S3: its libraries, with a main of ours (mountpoint/). */
export const mountpoint: Peer = {
  name: 'Mountpoint',
  async install() {
    const missing = await needPrograms('cargo=cargo', 'cmake=cmake', 'clang=clang', 'fusermount3=fuse3');
    if (missing !== undefined) return missing;
    if (isBuilt()) return undefined;
    console.error('bench: building Mountpoint; the first time takes some ten minutes');
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
