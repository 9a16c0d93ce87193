import { afterAll, beforeAll, describe } from 'vitest';
import { describeBucket } from '../../test/support/bucket-suite.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { parseS3Location } from './s3/location.ts';
import { s3Bucket } from './s3.ts';

describe.skipIf(!hasS3Server)('S3', () => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startS3Server();
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await server.close();
  });

  for (const [name, prefix, settings] of [
    ['s3, below a prefix', 'some/prefix', {}],
    ['s3, a whole bucket, with large objects in parts', undefined, { largest: 5 * 1024 * 1024, part: 5 * 1024 * 1024 }],
  ] as const)
    describeBucket(name, async () => {
      const location = parseS3Location(await server.location(prefix));
      const bucket = s3Bucket(location, settings);
      const another = s3Bucket(location, settings);
      const close = async () => {
        await bucket.close();
        await another.close();
      };
      return { bucket, another, close };
    });
});
