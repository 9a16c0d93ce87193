import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Worker, type WorkerOptions } from 'node:worker_threads';

let prepared = false;

/**
 * Starts a worker thread that runs `module`, with the code that Node keeps compiled: it then starts in half the time. Every thread is
 * started here.
 */
export function startThread(module: URL, options: Omit<WorkerOptions, 'env'> = {}): Worker {
  prepareForThreads();
  const kept = getCompileCacheDir();
  // A thread takes the folder from its environment only. The one that is named here is of this Node's version, inside of the one that was set.
  const env = kept === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: dirname(kept) };
  return new Worker(module, { ...options, env });
}

/**
 * Sets the flags of V8 that a process with threads runs with. Not given to Node at its start, and set as late as can be: compiled code is
 * used only by a V8 with the flags of the one that compiled it, and with these, Node must compile its own modules, too.
 */
function prepareForThreads(): void {
  if (prepared) return;
  prepared = true;
  // What this thread has compiled is of the flags until here.
  flushCompileCache();
  // Node strips types and reads CommonJS exports with WebAssembly, in each thread. V8 replaces its calls out of WebAssembly by
  // faster ones after a thousand, keeps those in one place for all threads, and may crash when one thread frees what another
  // adds. They are not worth it here: docs/decisions/webassembly-in-threads.md.
  setFlagsFromString('--wasm-wrapper-tiering-budget=2000000000');
  // Heaps that grow in small steps: what larger ones would save in collections is little here, and what they cost in memory is much.
  setFlagsFromString('--heap-growing-percent=20');
}
