/** A worker thread of the cache: reads packs, checks what is in them, and writes objects. Its work comes from `Crew`. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import type { Digest } from '../dataset/digest.ts';
import { isErrno, LarderError } from '../dataset/errors.ts';
import { openRepository, type Repository } from '../dataset/repository.ts';
import { toThreadError } from '../dataset/threads/thread-error.ts';
import { PortBuckets, readOnlyBucket } from './bucket-port.ts';
import type { CrewOrder, CrewReport, CrewStart } from './crew-protocol.ts';
import { assembleFile, fetchPieces, fetchSource, unpack } from './jobs.ts';
import { ObjectWriter } from './object-writer.ts';
import { openRoom } from './room.ts';
import { loadStageMap, type StageMap } from './stage-map.ts';
import { isStreamJob, type PieceListener, runStreamJob } from './stream/stream-job.ts';

/** How long without work until the journal is given up to be sealed, in milliseconds. */
const IDLE = 5_000;

const port = parentPort!;
const { layout, writerName, bootId, room, buckets } = workerData as CrewStart;
const report = (message: CrewReport) => port.postMessage(message);
const portBuckets = new PortBuckets(buckets);
const maps = new Map<number, StageMap>();
const urgent = new Set<Digest>();
const running = new Map<number, { stopping: AbortController; ended: Promise<void> }>();
type JobOrder = Extract<CrewOrder, { task: unknown }>;

let idle: NodeJS.Timeout | undefined;

const writer = new ObjectWriter({
  layout,
  name: writerName,
  bootId,
  room: room && openRoom(room),
  onPlaced: (placed) => report({ placed }),
  onRetired: (retired) => report({ retired }),
});

/** Repositories that this thread reads by itself. */
const repositories = new Map<string, Promise<Repository>>();

function opened(location: string): Promise<Repository> {
  let repository = repositories.get(location);
  if (!repository) {
    repository = openRepository(location);
    repositories.set(location, repository);
    repository.catch(() => repositories.delete(location));
  }
  return repository;
}

function isWanted(id: Digest): boolean {
  for (const map of maps.values()) if (map.has(id)) return true;
  return urgent.has(id);
}

function start(order: JobOrder): void {
  clearTimeout(idle);
  const stopping = new AbortController();
  const ended = work(order, stopping.signal).finally(() => {
    running.delete(order.job);
    if (running.size > 0) return;
    idle = setTimeout(() => writer.pause(), IDLE);
  });
  running.set(order.job, { stopping, ended });
}

/** Gives a piece's memory to the main thread, where it has it to itself. */
function sendPiece(job: number): PieceListener {
  return (at, bytes) => {
    const own = bytes && bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes?.slice();
    const piece: CrewReport = { pieceOf: job, at, bytes: own };
    port.postMessage(piece, own ? [own.buffer as ArrayBuffer] : []);
  };
}

async function work({ job, repository, task }: JobOrder, signal: AbortSignal): Promise<void> {
  let read = 0;
  const count = (bytes: number) => {
    read += bytes;
  };
  try {
    const source = repository.direct
      ? countReads(await opened(repository.location), count)
      : { ...repository, bucket: portBuckets.bucket(job, repository.location, signal) };
    if (isStreamJob(task)) await runStreamJob({ repository: source, task, writer, onPiece: sendPiece(job), signal });
    else if (task.kind === 'pack')
      await unpack({ repository: source, pack: task.pack, writer, isWanted, isUrgent: (id) => urgent.has(id), signal });
    else if (task.kind === 'pieces') await fetchPieces({ repository: source, ...task, writer, signal });
    else if (task.kind === 'source') await fetchSource({ bucket: source.bucket, ...task, writer, signal });
    else await assembleFile({ repository: source, id: task.id, parts: task.parts, writer, signal });
    report({ done: job, read });
  } catch (error) {
    report({ done: job, read, error: toThreadError(error) });
  }
}

function countReads(repository: Repository, count: (bytes: number) => void): Repository {
  const { bucket } = repository;
  async function* counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const block of body) {
      count(block.length);
      yield block;
    }
  }
  const get: Bucket['get'] = async (key, options) => {
    const object = await bucket.get(key, options);
    return { ...object, body: counted(object.body) };
  };
  return { ...repository, bucket: readOnlyBucket(bucket.name, get) };
}

port.on('message', (order: CrewOrder) => {
  if ('task' in order) {
    start(order);
  } else if ('urgent' in order) {
    urgent.add(order.urgent);
    if (writer.isPending(order.urgent)) writer.show();
  } else if ('calm' in order) {
    urgent.delete(order.calm);
  } else if ('abort' in order) {
    running.get(order.abort)?.stopping.abort();
  } else if ('stageMap' in order) {
    openMap(order);
  } else if ('dropStageMap' in order) {
    maps.get(order.dropStageMap)?.close();
    maps.delete(order.dropStageMap);
  } else {
    void close();
  }
});

/** One that cannot be opened any more wants nothing: what was asked for by name is brought all the same. */
function openMap({ stageMap, file, root }: Extract<CrewOrder, { stageMap: unknown }>): void {
  try {
    maps.set(stageMap, loadStageMap(file, root));
  } catch (error) {
    if (!(error instanceof LarderError) && !isErrno(error, 'ENOENT')) throw error;
  }
}

async function close(): Promise<void> {
  for (const { stopping } of running.values()) stopping.abort();
  await Promise.all([...running.values()].map(({ ended }) => ended));
  clearTimeout(idle);
  writer.close();
  for (const map of maps.values()) map.close();
  for (const repository of await Promise.all(repositories.values())) await repository.bucket.close();
  port.close();
  buckets.close();
}
