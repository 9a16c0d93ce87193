import { closeSync, existsSync, openSync, readFileSync, rmSync, statfsSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fallocate } from '../../system/calls.ts';
import type { Random } from '../support/random.ts';
import type { SoakVersion } from './dataset.ts';
import { BucketAway, type SoakNode } from './node.ts';
import type { Peers } from './peers.ts';

export interface FaultContext {
  readonly node: SoakNode;
  readonly versions: readonly SoakVersion[];
  readonly random: Random;
  readonly peers: Peers;
  readonly note: (text: string) => void;
}

/** Something that happens to a node. Where `excuses` says so, reads may fail with EIO while it lasts and for the deadline after it. */
export interface NodeFault {
  readonly name: string;
  readonly weight: number;
  readonly excuses?: boolean;
  run(context: FaultContext): Promise<void>;
}

/** How long a daemon may take until it answers, in milliseconds, on a machine that is busy. */
const START = 60_000;

export const NODE_FAULTS: readonly NodeFault[] = [
  {
    name: 'the daemon is killed',
    weight: 5,
    run: async ({ node, random }) => {
      await node.end('daemon', 'SIGKILL');
      await sleep(random.below(1500));
      node.start('daemon');
      await node.ready(START);
    },
  },
  {
    name: 'the daemon is replaced',
    weight: 3,
    run: async ({ node }) => {
      await node.end('daemon', 'SIGTERM');
      node.start('daemon');
      await node.ready(START);
    },
  },
  {
    name: 'the daemon hangs',
    weight: 2,
    run: async ({ node, random }) => {
      node.signal('daemon', 'SIGSTOP');
      await sleep(500 + random.below(2500));
      node.signal('daemon', 'SIGCONT');
    },
  },
  {
    name: 'the keeper is killed',
    weight: 3,
    run: async ({ node, random }) => {
      await node.end('keeper', 'SIGKILL');
      await sleep(random.below(1000));
      node.start('keeper');
      await node.ready(START);
    },
  },
  {
    name: 'daemon and keeper are killed',
    weight: 1,
    excuses: true,
    run: async ({ node, random }) => {
      await Promise.all([node.end('daemon', 'SIGKILL'), node.end('keeper', 'SIGKILL')]);
      await sleep(random.below(1000));
      node.start('keeper');
      node.start('daemon');
      await node.ready(START);
      await healed(node);
    },
  },
  {
    name: 'somebody else fills the disk',
    weight: 2,
    run: async ({ node, random }) => {
      const file = join(node.directory, 'ballast');
      const { bavail, bsize } = statfsSync(node.directory);
      const descriptor = openSync(file, 'w');
      try {
        fallocate(descriptor, 0, Math.max(bsize, (bavail - 64) * bsize));
        await sleep(1000 + random.below(3000));
      } finally {
        closeSync(descriptor);
        rmSync(file);
      }
    },
  },
  {
    name: 'objects are evicted',
    weight: 2,
    run: async ({ node }) => {
      await node.must(['cache', 'evict']);
    },
  },
  {
    name: 'a version is mounted or unmounted',
    weight: 6,
    run: async ({ node, versions, random, note }) => {
      const mounts = [...node.mounts.keys()];
      if (mounts.length > 1 && (mounts.length > 3 || random.oneIn(2))) await node.unmount(random.pick(mounts));
      else await unlessAway(node.mount(random.pick(versions)), note);
    },
  },
  {
    name: 'an object is damaged',
    weight: 3,
    run: damage,
  },
  {
    name: 'the list of neighbours changes',
    weight: 2,
    run: async ({ peers, random }) => {
      peers.write(random);
      await sleep(random.below(2000));
    },
  },
  {
    name: 'a reader is killed',
    weight: 2,
    run: async ({ node, random }) => {
      await node.readers.replace(random.below(100));
    },
  },
];

/** Of a node whose cache cannot hold all: without a keeper its mounts cannot be served any more, since they cannot ask and what they lack has no room. */
export const SMALL_NODE_FAULTS = NODE_FAULTS.filter(({ excuses }) => !excuses);

/** Mounts that lost their ring have everything again. */
async function healed(node: SoakNode): Promise<void> {
  const end = Date.now() + START;
  for (;;) {
    const [contents] = [JSON.parse(await node.must(['--json', 'cache', 'show'])) as { versions: CachedVersion[] }];
    const lacking = contents.versions.filter((one) => one.staged && one.cachedFiles < one.files);
    if (lacking.length === 0 || Date.now() > end) return;
    await sleep(200);
  }
}

interface CachedVersion {
  readonly staged: boolean;
  readonly files: number;
  readonly cachedFiles: number;
}

/**
 * Bits, ends or whole blocks of an object rot on the disk. A reader of a mounted version would see it, for the kernel reads what the disk gives: so it
 * happens to a version that nobody has staged, and `cache verify` must find exactly that.
 */
async function damage({ node, versions, random, note }: FaultContext): Promise<void> {
  const candidates = versions
    .filter((version) => !node.isStaged(version))
    .flatMap((version) => version.alone)
    .filter((id) => existsSync(objectOf(node, id)));
  if (candidates.length === 0) return note('nothing to damage');
  const id = random.pick(candidates);
  const file = objectOf(node, id);
  const size = readFileSync(file).length;
  if (random.oneIn(3)) {
    truncateSync(file, random.below(size));
  } else {
    const descriptor = openSync(file, 'r+');
    const at = random.below(size);
    const flipped = readFileSync(file)[at]! ^ (1 << random.below(8));
    writeSync(descriptor, Buffer.from([flipped]), 0, 1, at);
    closeSync(descriptor);
  }
  // Not left there, whatever the bucket does: the version may be staged next.
  let found: string | undefined;
  while (found === undefined) found = await unlessAway(node.must(['--json', 'cache', 'verify'], 5), note);
  const { damaged } = JSON.parse(found) as { damaged: string[] };
  // The scrub in the background may have been faster.
  if (existsSync(file) && !damaged.includes(id))
    throw new Error(`the damage of ${id} on ${node.name} was not found: ${damaged}`);
}

/** Undefined where the bucket was away for it. */
async function unlessAway<T>(command: Promise<T>, note: (text: string) => void): Promise<T | undefined> {
  try {
    return await command;
  } catch (error) {
    if (!(error instanceof BucketAway)) throw error;
    note('the bucket is broken: not done');
    return undefined;
  }
}

function objectOf(node: SoakNode, id: string): string {
  return join(node.cache, 'objects', id.slice(0, 2), id);
}
