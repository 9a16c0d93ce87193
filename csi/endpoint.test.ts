import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConflictError, InvalidError } from '../dataset/errors.ts';
import { clearSocket, socketPath } from './endpoint.ts';

describe('an endpoint', () => {
  it('is a unix socket in any of its spellings', () => {
    expect(socketPath('unix:///run/csi.sock')).toBe('/run/csi.sock');
    expect(socketPath('unix:/run/csi.sock')).toBe('/run/csi.sock');
    expect(socketPath('/run/csi.sock')).toBe('/run/csi.sock');
  });

  it.each(['', 'unix://', 'tcp://127.0.0.1:10000', 'csi.sock', `unix:///${'x'.repeat(107)}`])(
    'is refused where the kernel has no such socket: %s',
    (endpoint) => {
      expect(() => socketPath(endpoint)).toThrow(InvalidError);
    },
  );
});

describe('the place of a socket', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'larder-endpoint-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('may be free', async () => {
    await clearSocket(join(directory, 'csi.sock'));
  });

  it('is cleared of a socket whose process was killed', async () => {
    const path = join(directory, 'csi.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    expect(spawnSync(process.execPath, ['-e', script]).signal).toBe('SIGKILL');
    expect(existsSync(path)).toBe(true);
    await clearSocket(path);
    expect(existsSync(path)).toBe(false);
  });

  it('is left to a process that answers there', async () => {
    const path = join(directory, 'csi.sock');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await expect(clearSocket(path)).rejects.toThrow(ConflictError);
    expect(existsSync(path)).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });

  it('is not cleared of a file', async () => {
    const path = join(directory, 'csi.sock');
    writeFileSync(path, 'precious');
    await expect(clearSocket(path)).rejects.toThrow(/is no socket/);
    expect(existsSync(path)).toBe(true);
  });
});
