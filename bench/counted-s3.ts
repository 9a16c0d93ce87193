import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type BreakingProxy, startBreakingProxy } from '../test/support/breaking-proxy.ts';
import { type S3Server, startS3Server, whyNoS3Server } from '../test/support/s3-server.ts';

export interface CountedS3 extends AsyncDisposable {
  readonly server: S3Server;
  /** Stands between, and counts. */
  readonly proxy: BreakingProxy;
}

/** versitygw on loopback with its buckets below `parent`. Its credentials are in this process's environment from then on. */
export async function startCountedS3(parent: string): Promise<CountedS3> {
  if (whyNoS3Server !== undefined) throw new Error(`there is no S3 server to measure with: ${whyNoS3Server}`);
  const directory = mkdtempSync(join(parent, 's3-'));
  const { TMPDIR } = process.env;
  // The server keeps its buckets below the temporary directory.
  process.env.TMPDIR = directory;
  const server = await startS3Server();
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  const proxy = await startBreakingProxy(server.endpoint);
  return {
    server,
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
