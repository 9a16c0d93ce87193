import { readFileSync } from 'node:fs';
import type { Bench } from './context.ts';

const AT_ONCE = 16;

/** Files as objects of their own, as a bucket has them that nobody has packed. */
export interface Plain {
  readonly bucket: string;
  /** `/bucket/key` of each, in the files' order. */
  readonly paths: readonly string[];
}

/** Puts files into a bucket of their own, by the shortest way. Their keys are their paths below `source`. */
export async function storePlain({ server }: Bench, source: string, files: readonly string[]): Promise<Plain> {
  const bucket = await server.makeBucket();
  const paths = files.map((file) => `/${bucket}/${file.slice(source.length + 1)}`);
  let next = 0;
  const worker = async () => {
    while (next < files.length) {
      const index = next++;
      const { status, body } = await server.request('PUT', paths[index]!, { body: readFileSync(files[index]!) });
      if (status !== 200) throw new Error(`${paths[index]} was not stored: ${status} ${body}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { bucket, paths };
}
