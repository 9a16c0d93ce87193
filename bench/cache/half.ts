import { join } from 'node:path';
import { dropCaches } from '../filesystem.ts';
import { type Row, rate } from '../report.ts';
import { type Bench, directoryBytes, freshNode, readList, warm, writeList } from './context.ts';

const FILE_BYTES = 110_000;
const EPOCHS = 3;

/** Epochs, each in another order, over a dataset twice as large as the cache may be. */
export async function benchHalf(bench: Bench): Promise<Row[]> {
  const { stored, what: files } = await bench.images(FILE_BYTES);
  warm(join(bench.server.directory, stored.bucket));
  const limit = Math.floor(stored.bytes / 2);
  await using node = await freshNode(bench, {
    link: bench.slow,
    stored,
    name: 'half',
    settings: { LARDER_CACHE_LIMIT: String(limit) },
  });
  const rows: Row[] = [];
  const what = `${files}, a cache of half the size`;
  for (let epoch = 1; epoch <= EPOCHS; epoch += 1) {
    const list = writeList(bench, node.target, 'half', epoch);
    // What was streamed is in the page cache, which this machine has enough of for all: a training job's memory would take it.
    dropCaches();
    await bench.slow.takePassed();
    const seconds = await readList(bench, list, 8);
    const passed = await bench.slow.takePassed();
    const cacheBytes = directoryBytes(node.larder.cache);
    bench.record({ part: 'half', what, epoch, bytes: stored.bytes, limit, seconds, passed, cacheBytes });
    rows.push({
      what: `${what}, epoch ${epoch} (${bench.slow.name}): what came from the bucket, of the dataset`,
      larder: `${rate(stored.files, seconds, 'files')}, ${(passed.received / 1e6).toFixed(0)} MB, ${passed.get} requests`,
      value: passed.received / stored.bytes,
      // The half that is cached is hit; the other may be read ahead of what is wanted, but not twice.
      goal: { atMost: epoch === 1 ? 1.1 : 0.55 },
    });
    rows.push({
      what: 'what the cache holds then, of its limit',
      larder: `${(cacheBytes / 1e6).toFixed(0)} MB`,
      value: cacheBytes / limit,
      goal: { atMost: 1.05 },
    });
  }
  return rows;
}
