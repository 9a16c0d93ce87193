/** A process that makes one version's image and stage map, and ends. What it reads it asks of the process that started it. */
import { once } from 'node:events';
import type { Bucket, GetOptions } from '../dataset/bucket/bucket.ts';
import type { Digest } from '../dataset/digest.ts';
import { fromThreadError, type ThreadError, toThreadError } from '../dataset/threads/thread-error.ts';
import { buildImage, type ImageFiles } from './image-files.ts';

/** From the daemon: the order, which comes first, and what was read. */
export type ImageOrder =
  | (Omit<ImageFiles, 'repository' | 'signal'> & {
      readonly repository: { readonly id: string; readonly location: string };
    })
  | { readonly read: number; readonly bytes: Uint8Array }
  | { readonly read: number; readonly error: ThreadError };

/** To the daemon: what is to be read, and how it ended. */
export type ImageAnswer =
  | { readonly read: number; readonly key: string; readonly range?: GetOptions['range'] }
  | { readonly ended: true; readonly error?: ThreadError };

const reads = new Map<number, PromiseWithResolvers<Uint8Array>>();
let serial = 0;

const send = (answer: ImageAnswer) => new Promise((resolve) => process.send!(answer, resolve));

function bucketOf(name: string): Bucket {
  const refuse = (): never => {
    throw new Error('an image is made by reading only');
  };
  const get: Bucket['get'] = async (key, { range } = {}) => {
    const read = serial++;
    const reading = Promise.withResolvers<Uint8Array>();
    reads.set(read, reading);
    void send({ read, key, ...(range && { range }) });
    const bytes = await reading.promise;
    async function* body() {
      yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    return { size: bytes.byteLength, etag: '', modified: new Date(0), body: body() };
  };
  return { name, get, head: refuse, put: refuse, list: refuse, delete: refuse, close: async () => {} };
}

// Without the daemon nobody wants it.
process.once('disconnect', () => process.exit(1));
process.on('message', (order: ImageOrder) => {
  if (!('read' in order)) return;
  const reading = reads.get(order.read);
  reads.delete(order.read);
  if ('bytes' in order) reading?.resolve(order.bytes);
  else reading?.reject(fromThreadError(order.error));
});

const [order] = (await once(process, 'message')) as [Extract<ImageOrder, { root: Digest }>];
const { repository, ...files } = order;
let error: ThreadError | undefined;
try {
  await buildImage({ repository: { ...repository, bucket: bucketOf(repository.location) }, ...files });
} catch (cause) {
  error = toThreadError(cause);
}
await send({ ended: true, ...(error && { error }) });
process.exit();
