import { lstatSync, readdirSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { startThread } from '../system/thread.ts';

/** What a directory holds, by the sizes that its files have now. */
export interface TreeCount {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Counts a directory's files in a thread of its own, so that a bar can tell how much is left; nothing else relies on it. What cannot
 * be read is not counted. Undefined until it is known.
 */
export function countTree(directory: string): { readonly total: TreeCount | undefined } & AsyncDisposable {
  const worker = startThread(new URL(import.meta.url), { workerData: { countTree: directory } });
  let total: TreeCount | undefined;
  worker.on('message', (count: TreeCount) => {
    total = count;
  });
  // A bar without an end is all that is lost.
  worker.on('error', () => {});
  worker.unref();
  return {
    get total() {
      return total;
    },
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  };
}

function count(root: Buffer): TreeCount {
  const slash = Buffer.from('/');
  let [files, bytes] = [0, 0];
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const entry of list(directory)) {
      const path = Buffer.concat([directory, slash, entry.name]);
      if (entry.isDirectory()) directories.push(path);
      else if (entry.isFile()) {
        files += 1;
        bytes += lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
      }
    }
  }
  return { files, bytes };
}

function list(directory: Buffer) {
  try {
    return readdirSync(directory, { withFileTypes: true, encoding: 'buffer' });
  } catch {
    // Gone, or not ours to read: the import says so where it matters.
    return [];
  }
}

const { countTree: task } = (workerData ?? {}) as { readonly countTree?: string };
if (task !== undefined) parentPort!.postMessage(count(Buffer.from(task)));
