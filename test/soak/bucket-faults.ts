import { setTimeout as sleep } from 'node:timers/promises';
import type { BreakingProxy, Fault } from '../support/breaking-proxy.ts';
import type { Random } from '../support/random.ts';
import type { S3Server } from '../support/s3-server.ts';

export interface BucketFault {
  readonly name: string;
  run(proxy: BreakingProxy, server: S3Server, random: Random): Promise<void>;
}

/** Something that happens to one request in `every`. */
function some(name: string, every: number, fault: (random: Random) => Fault): BucketFault {
  return {
    name,
    run: async (proxy, _server, random) => {
      proxy.plan = () => (random.oneIn(every) ? fault(random) : undefined);
      await sleep(500 + random.below(2500));
      proxy.plan = () => undefined;
    },
  };
}

const within = (random: Random) => random.below(2 ** 20);

export const BUCKET_FAULTS: readonly BucketFault[] = [
  some('the bucket is slow', 1, (random) => ({ kind: 'latency', milliseconds: 20 + random.below(300) })),
  some('the bucket has errors', 3, () => ({ kind: 'error' })),
  some('the bucket asks to slow down', 2, () => ({ kind: 'slow-down' })),
  some('connections are refused', 3, () => ({ kind: 'refuse' })),
  some('connections are reset', 3, (random) => ({ kind: 'reset', after: within(random) })),
  some('answers are cut short', 3, (random) => ({ kind: 'truncate', after: within(random) })),
  some('answers stall', 4, (random) => ({ kind: 'stall', after: within(random) })),
  some('no answers come', 4, () => ({ kind: 'silence' })),
  some('wrong ranges come', 3, (random) => ({ kind: 'wrong-range', shift: 1 + random.below(1000) })),
  some('bits flip on the way', 3, (random) => ({ kind: 'flip', at: within(random) })),
  {
    name: 'the bucket is away',
    run: async (_proxy, server, random) => {
      await server.stop();
      await sleep(500 + random.below(4000));
      await server.restart();
    },
  },
];
