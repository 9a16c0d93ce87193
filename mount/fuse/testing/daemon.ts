import { setTimeout as sleep } from 'node:timers/promises';
import { openKeptRing } from '../../keeper-ring.ts';
import { WANTED } from '../negotiate.ts';
import { FEATURE } from '../protocol.ts';
import type { RingFile } from '../ring-file.ts';
import { contentOf, readContentIds } from './contents.ts';
import { storeObject } from './rig.ts';

/** What the daemon under test is started with, as JSON in its argument. */
export interface DaemonOptions {
  /** The rig's root. */
  readonly root: string;
  readonly socket: string;
  /** Written by `writeContentIds`. */
  readonly ids: string;
  readonly deadline: number;
  /** Fetching takes up to so long, in ms; -1 is: for ever. */
  readonly delay: number;
  /** Do without FUSE_HAS_RESEND, as before Linux 6.9. */
  readonly old?: boolean;
  /** Give the files out as the ring's own instead of fetching them; `-1` as `delay` then holds reads, and not opens. */
  readonly stream?: boolean;
  /** Path of a whole file for each content id, to pass opens through to: `<whole>/<id>`. */
  readonly whole?: string;
  /** It kills itself at the so-manieth thing that it is asked for: at an odd one before it has it, at an even one when it is about to answer. */
  readonly dieAt?: number;
}

// Serves a rig's ring, with objects made on the spot. Prints events; SIGTERM hands the ring to the keeper, SIGUSR2 prints the counters.
const {
  root,
  socket,
  ids,
  deadline,
  delay,
  old,
  stream,
  whole,
  dieAt = 0,
} = JSON.parse(process.argv[2]!) as DaemonOptions;
const index = readContentIds(ids);
const never = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

let asked = 0;
/** Does what it is asked for; where that is the last thing, the process ends. */
async function answer<T>(get: () => T | Promise<T>): Promise<T> {
  asked += 1;
  const isLast = asked === dieAt;
  if (isLast && dieAt % 2 === 1) process.kill(process.pid, 'SIGKILL');
  const got = await get();
  if (isLast) process.kill(process.pid, 'SIGKILL');
  return got;
}

/** A file whose bytes are made on the spot. */
function streamOf(id: string): RingFile {
  const data = contentOf(index.get(id)!);
  return {
    size: data.length,
    read: (offset, length, signal) =>
      answer(async () => {
        if (delay < 0) await never(signal);
        return data.subarray(offset, offset + length);
      }),
    whole: () => whole && `${whole}/${id}`,
    close() {},
  };
}

const ring = await openKeptRing({
  target: `${root}/ring`,
  socket,
  deadline,
  ...(old && { features: WANTED & ~FEATURE.resend }),
  onEvent: (event) => console.log(event),
  async resolve(id, signal) {
    const file = index.get(id);
    if (file === undefined) return 'absent';
    if (stream) return streamOf(id);
    return answer(async (): Promise<'ready'> => {
      if (delay < 0) await never(signal);
      await sleep(Math.random() * delay);
      signal.throwIfAborted();
      storeObject(root, contentOf(file));
      return 'ready';
    });
  },
});
console.log(`up: ${ring.how}`);
// Stands still, as if stuck in a call, for two seconds.
process.on('SIGUSR1', () => {
  const until = Date.now() + 2000;
  while (Date.now() < until);
});
process.on('SIGTERM', async () => {
  await ring.leave();
  console.log('left');
});
process.on('SIGUSR2', () => console.log(JSON.stringify(ring.server.counters())));
