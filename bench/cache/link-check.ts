import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from '../corpus.ts';
import type { Link } from '../link.ts';
import { median } from '../measure.ts';
import type { Row } from '../report.ts';
import { fetchAll } from './fetch.ts';

const SMALL = 40;
const LARGE_BYTES = 16e6;

/** Whether a link is what its shape says: small objects come as late as its round trip, large ones as fast as its rate. */
export async function checkLink(scratch: string, fetch: string, link: Link, bytes: number): Promise<Row[]> {
  const bucket = await link.server.makeBucket();
  const put = async (key: string, body: Buffer) => {
    const { status } = await link.server.request('PUT', `/${bucket}/${key}`, { body });
    if (status !== 200) throw new Error(`${key} was not stored: ${status}`);
  };
  const next = randomBytes(11);
  const small = Array.from({ length: SMALL }, (_, index) => `small-${index}`);
  const large = Array.from({ length: Math.ceil(bytes / LARGE_BYTES) }, (_, index) => `large-${index}`);
  for (const key of small) await put(key, next(1000));
  for (const key of large) await put(key, next(LARGE_BYTES));
  const rows: Row[] = [];
  const { milliseconds, bytesPerSecond } = link.shape;
  const times = async (keys: string[], connections: number) => {
    const paths = keys.map((key) => `/${bucket}/${key}`);
    const results = [];
    for (let round = 0; round < 3; round += 1)
      results.push(await fetchAll({ scratch, fetch, link, paths, connections }));
    return median(results.map(({ seconds }) => seconds));
  };
  const each = (await times(small, 1)) / (SMALL + 1); // One round trip is the handshake.
  rows.push({
    what: `the link (${link.name}): a GET of 1 KB`,
    larder: `${(each * 1000).toFixed(2)} ms`,
    value: (each * 1000) / milliseconds,
    goal: { atMost: 1.2 },
  });
  const rate = (large.length * LARGE_BYTES) / (await times(large, 8));
  rows.push({
    what: `the link (${link.name}): 8 downloads of ${LARGE_BYTES / 1e6} MB`,
    larder: `${(rate / 1e6).toFixed(1)} MB/s`,
    value: bytesPerSecond === 0 ? rate / 1e6 : rate / bytesPerSecond,
    ...(bytesPerSecond === 0 ? { unit: 'MB/s' } : { goal: { atLeast: 0.95 } }),
  });
  rmSync(join(link.server.directory, bucket), { recursive: true });
  return rows;
}
