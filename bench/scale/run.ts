import { readFileSync } from 'node:fs';
import { requestsOf, totalOf } from '../../dataset/bucket/metrics.ts';
import { openRepository } from '../../dataset/repository.ts';
import { countedBucket } from './counted.ts';
import { type Operation, type OperationName, operations } from './operations.ts';

/** What `run.ts` prints. */
export interface Ran {
  /** Of the operation alone: the process has started and the repository is open. */
  readonly seconds: number;
  /** The largest resident size of the process, in bytes. */
  readonly residentBytes: number;
  /** Processor time of the whole process, its start too. */
  readonly processorSeconds: number;
  /** What the operation asked the repository's bucket for, its opening not counted. */
  readonly requests: number;
  readonly bytesWritten: number;
  /** What an object store was asked for to open the repository; 0 where it is a directory. */
  readonly openingRequests: number;
}

/* One operation in this process: `run.ts OPERATION LOCATION ENTRIES`. Prints `Ran` as JSON. */
const [name, location, entries] = process.argv.slice(2) as [OperationName, string, string];
const operation: Operation = operations[name];
const run = await operation.load();
const opened = await openRepository(location);
const opening = requestsOf(opened.bucket);
const openingRequests = opening ? totalOf(opening).count : 0;
const { bucket, counts } = countedBucket(opened.bucket);
const start = performance.now();
const found = await run({ repository: { ...opened, bucket }, entries: Number(entries) });
const seconds = (performance.now() - start) / 1000;
await bucket.close();
const residentBytes = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
const { user, system } = process.cpuUsage();
const expected = operation.expected(Number(entries));
for (const [what, value] of Object.entries(expected))
  if (found[what] !== value) throw new Error(`${name} found ${found[what]} ${what} instead of ${value}`);
const { bytesWritten, ...kinds } = counts;
const requests = Object.values(kinds).reduce((sum, count) => sum + count, 0);
const ran: Ran = {
  seconds,
  residentBytes,
  processorSeconds: (user + system) / 1e6,
  requests,
  bytesWritten,
  openingRequests,
};
console.log(JSON.stringify(ran));
