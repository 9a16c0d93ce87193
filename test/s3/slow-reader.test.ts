import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { parseS3Location } from '../../dataset/bucket/s3/location.ts';
import { s3Bucket } from '../../dataset/bucket/s3.ts';
import { faultsFor, startBreakingProxy } from '../support/breaking-proxy.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, startS3Server } from '../support/s3-server.ts';

describe.skipIf(!hasS3Server)('a body of S3', () => {
  it(
    'that stalls after its reader was slow goes on from where it stopped',
    async () => {
      await using server = await startS3Server();
      await using proxy = await startBreakingProxy(server.endpoint);
      const bucket = s3Bucket(parseS3Location(proxy.location(await server.location())), {
        timeouts: { connect: 2000, stall: 200 },
        retries: { attempts: 4, base: 10, longest: 100 },
      });
      const bytes = createRandom(1).bytes(3 << 20);
      await bucket.put('x', bytes);
      proxy.plan = faultsFor('GetObject', { kind: 'stall', after: 2 << 20 });
      const parts: Buffer[] = [];
      for await (const part of (await bucket.get('x')).body) {
        // Longer than the silence that ends a request: what has come waits to be read.
        if (parts.length === 0) await sleep(700);
        parts.push(part);
      }
      expect(Buffer.concat(parts).equals(bytes)).toBe(true);
      expect(proxy.total('GetObject')).toMatchObject({ faults: 1 });
      await bucket.close();
    },
    S3_SERVER_TIMEOUT,
  );
});
