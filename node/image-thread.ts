/** A thread that makes one version's image and stage map, and ends. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { PortBuckets } from '../cache/bucket-port.ts';
import type { Digest } from '../dataset/digest.ts';
import { type ThreadError, toThreadError } from '../dataset/threads/thread-error.ts';
import { buildImage } from './image-files.ts';

export interface ImageOrder {
  readonly repository: { readonly id: string; readonly location: string };
  readonly root: Digest;
  readonly file: string;
  readonly mapFile: string;
  /** For `PortBuckets`. */
  readonly buckets: MessagePort;
}

export interface ImageAnswer {
  readonly error?: ThreadError;
}

const { repository, buckets, ...files } = workerData as ImageOrder;
const bucket = new PortBuckets(buckets).bucket(0, repository.location, new AbortController().signal);
let answer: ImageAnswer = {};
try {
  await buildImage({ repository: { ...repository, bucket }, ...files });
} catch (error) {
  answer = { error: toThreadError(error) };
}
parentPort!.postMessage(answer);
buckets.close();
