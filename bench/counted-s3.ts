import { type BreakingProxy, startBreakingProxy } from '../test/support/breaking-proxy.ts';
import type { S3Server } from '../test/support/s3-server.ts';
import { startS3In } from './s3.ts';

export interface CountedS3 extends AsyncDisposable {
  readonly server: S3Server;
  /** Stands between, and counts. */
  readonly proxy: BreakingProxy;
}

/** As `startS3In`, with a proxy before it. */
export async function startCountedS3(parent: string): Promise<CountedS3> {
  const server = await startS3In(parent);
  const proxy = await startBreakingProxy(server.endpoint);
  return {
    server,
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy.close();
      await server[Symbol.asyncDispose]();
    },
  };
}
