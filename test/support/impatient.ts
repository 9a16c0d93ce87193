import { parseS3Location } from '../../dataset/bucket/s3/location.ts';
import { s3Bucket } from '../../dataset/bucket/s3.ts';
import { openRepository, type Repository } from '../../dataset/repository.ts';

/** A repository on S3 whose client gives a stalled body a moment, and not half a minute: for tests that stall many. */
export async function openImpatiently(location: string): Promise<Repository> {
  const opened = await openRepository(location);
  await opened.bucket.close();
  const bucket = s3Bucket(parseS3Location(opened.location), {
    timeouts: { connect: 2000, stall: 400 },
    retries: { attempts: 8, base: 10, longest: 200 },
  });
  return { ...opened, bucket };
}
