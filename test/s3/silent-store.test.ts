import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initRepository, openRepository } from '../../dataset/repository.ts';
import { accessWithin } from '../../node/repositories.ts';
import { type BreakingProxy, faultsFor, startBreakingProxy } from '../support/breaking-proxy.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const TEXT = 'what was asked for';
/** With its usual patience, a store's client would wait for a minute: twice 30 seconds. */
const LIMIT = 45_000;

describe.skipIf(!hasS3Server)("a node's repository whose store falls silent", () => {
  let server: S3Server;
  let proxy: BreakingProxy;

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startBreakingProxy(server.endpoint);
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await proxy?.close();
    await server?.close();
  });

  it(
    'is asked again over another connection long before who waits gives up',
    async () => {
      const location = proxy.location(await server.location('silent'));
      await (await initRepository(location)).bucket.close();
      const { bucket } = await openRepository(location, accessWithin(4_000));
      await bucket.put('packs/x', Buffer.from(TEXT));
      for (const fault of [{ kind: 'silence' }, { kind: 'stall', after: 3 }] as const) {
        proxy.plan = faultsFor('GetObject', fault);
        const parts: Buffer[] = [];
        for await (const part of (await bucket.get('packs/x')).body) parts.push(part);
        expect(Buffer.concat(parts).toString()).toBe(TEXT);
      }
      expect(Object.fromEntries(proxy.faults)).toEqual({ silence: 1, stall: 1 });
      await bucket.close();
    },
    LIMIT,
  );

  it('has a part of the deadline for each request, within reason', () => {
    expect([100, 8_000, 20_000, 60_000, 3_600_000].map((deadline) => accessWithin(deadline).stall)).toEqual([
      1_000, 2_000, 5_000, 10_000, 10_000,
    ]);
  });
});
