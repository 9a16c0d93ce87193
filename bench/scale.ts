import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { initRepository } from '../dataset/repository.ts';
import { startCountedS3 } from './counted-s3.ts';
import { benchFilesystem } from './filesystem.ts';
import { measure } from './measure.ts';
import { nodeOptions } from './node-options.ts';
import { columns, type Report, type Row } from './report.ts';
import { type OperationName, operations } from './scale/operations.ts';
import type { Ran } from './scale/run.ts';

export interface ScaleOptions {
  /** Entries of the trees. */
  readonly sizes: readonly number[];
  /** Also on an S3 server on loopback. */
  readonly s3: boolean;
}

/** Where the operations ran, and how their requests are counted. */
interface Store {
  readonly name: string;
  /** The location of a fresh place, made ready as a repository. */
  make(size: number): Promise<string>;
  /** Requests and bytes to the store since the last call, where something stands between that counts them. */
  takeCounts(): { readonly requests: number; readonly bytesWritten: number } | undefined;
}

interface Taken extends Omit<Ran, 'openingRequests'> {
  readonly entries: number;
  readonly store: string;
  readonly operation: OperationName;
  /** With the start of the process. */
  readonly processSeconds: number;
}

const program = resolve(import.meta.dirname, 'scale', 'run.ts');

/**
 * What the store's operations cost on generated trees of so many entries, imported in place: there are no bytes of files. Each operation runs in
 * a process of its own, so that its memory is its own, on what those before it left.
 */
export async function benchScale(scratch: string, { sizes, s3 }: ScaleOptions): Promise<Report> {
  await using stack = new AsyncDisposableStack();
  const filesystem = stack.use(benchFilesystem(scratch, 'scale', 24));
  const environment = {
    LARDER_STATE: join(filesystem.directory, 'state'),
    // The code that it keeps compiled, as bin/larder does.
    NODE_COMPILE_CACHE: join(filesystem.directory, 'code'),
  };
  for (const directory of Object.values(environment)) mkdirSync(directory);
  const stores = [directoryStore(filesystem.directory)];
  if (s3) stores.push(await s3Store(stack, filesystem.directory));

  const taken: Taken[] = [];
  for (const entries of sizes)
    for (const store of stores) {
      const location = await store.make(entries);
      for (const operation of Object.keys(operations) as OperationName[]) {
        store.takeCounts();
        const command = [process.execPath, ...nodeOptions(), program, operation, location, String(entries)];
        const { stdout, seconds: processSeconds } = await measure(command, { environment });
        const { openingRequests, ...ran } = JSON.parse(stdout) as Ran;
        const counted = store.takeCounts();
        taken.push({
          entries,
          store: store.name,
          operation,
          processSeconds,
          ...ran,
          ...(counted && { bytesWritten: counted.bytesWritten, requests: counted.requests - openingRequests }),
        });
        console.error(`bench: ${describe(taken.at(-1)!).join(', ')}`);
      }
    }
  return {
    table: columns(
      ['entries', 'store', 'operation', 'time', 'with its process', 'memory', 'requests', 'written'],
      taken.map(describe),
    ),
    rows: goalsOf(taken),
    figures: taken,
  };
}

function describe(one: Taken): string[] {
  return [
    one.entries.toLocaleString('en-US'),
    one.store,
    operations[one.operation].title,
    `${one.seconds.toFixed(3)} s`,
    `${one.processSeconds.toFixed(2)} s`,
    `${(one.residentBytes / 1e6).toFixed(0)} MB`,
    one.requests.toLocaleString('en-US'),
    `${(one.bytesWritten / 1e6).toFixed(3)} MB`,
  ];
}

function goalsOf(taken: readonly Taken[]): Row[] {
  const rows = taken.flatMap(({ entries, store, operation, seconds }): Row[] => {
    const atMost = operation === 'clone' ? 0.05 : operation === 'commit' && entries <= 1_000_000 ? 1 : undefined;
    if (atMost === undefined) return [];
    const what = `${operations[operation].title}, ${entries.toLocaleString('en-US')} entries, ${store}`;
    return [{ what, larder: '', value: seconds, unit: 's', goal: { atMost } }];
  });
  const largest = taken.reduce((most, each) => (each.residentBytes > most.residentBytes ? each : most));
  const what = `the most memory of all, in ${operations[largest.operation].title} (${largest.store})`;
  return [...rows, { what, larder: '', value: largest.residentBytes / 1e6, unit: 'MB', goal: { atMost: 300 } }];
}

function directoryStore(parent: string): Store {
  return {
    name: 'directory',
    async make(size) {
      const location = join(parent, `repository-${size}`);
      const { bucket } = await initRepository(location);
      await bucket.close();
      return location;
    },
    takeCounts: () => undefined,
  };
}

async function s3Store(stack: AsyncDisposableStack, parent: string): Promise<Store> {
  const { server, proxy } = stack.use(await startCountedS3(parent));
  return {
    name: 'S3',
    async make(size) {
      const location = proxy.location(await server.location(`repository-${size}`));
      const { bucket } = await initRepository(location);
      await bucket.close();
      return location;
    },
    takeCounts() {
      const { requests, sent } = proxy.total();
      proxy.reset();
      return { requests, bytesWritten: sent };
    },
  };
}
