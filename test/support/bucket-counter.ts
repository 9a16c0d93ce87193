import { directoryBucket } from '../../dataset/bucket/directory.ts';
import { readObject } from '../../dataset/bucket/read-object.ts';
import { ConflictError } from '../../dataset/errors.ts';

/* A process that counts up the number in an object of a directory bucket: `bucket-counter.ts DIRECTORY KEY TIMES`. */
const [directory, key, times] = process.argv.slice(2);
const bucket = directoryBucket(directory!);
for (let left = Number(times); left > 0; ) {
  const { bytes, etag } = await readObject(bucket, key!, 100);
  const next = Buffer.from(String(Number(bytes.toString()) + 1).padStart(8, '0'));
  try {
    await bucket.put(key!, next, { condition: { etag } });
    left -= 1;
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
  }
}
await bucket.close();
