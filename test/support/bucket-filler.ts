import { directoryBucket } from '../../dataset/bucket/directory.ts';

/* A process that puts large objects into a directory bucket until it is killed: `bucket-filler.ts DIRECTORY`. */
const bucket = directoryBucket(process.argv[2]!);
const block = Buffer.alloc(1024 * 1024, 'x');
for (let i = 0; ; i++) {
  await bucket.put(
    `packs/${i % 5}`,
    Array.from({ length: 8 }, () => block),
  );
  if (i === 0) process.stdout.write('started\n');
}
