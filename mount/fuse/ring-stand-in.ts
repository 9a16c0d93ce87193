import { constants } from 'node:os';
import { emptyReply, errorReply } from './reply.ts';
import { createExpired } from './ring-expired.ts';
import type { FileCounters, FileNodes } from './ring-files.ts';
import type { Holds } from './ring-holds.ts';

/** What a daemon must be told of the time when it did not serve: FORGETs and RELEASEs that another answered for it. */
export interface Settled {
  /** Node number and how often it was given back. */
  readonly forgotten: readonly (readonly [string, string])[];
  /** Node number and handle. */
  readonly released: readonly (readonly [string, string])[];
}

/**
 * File nodes while no daemon serves them: opens and reads wait for the next one, and end at the deadline with EIO. What ends an open or
 * forgets a node is let through, and kept for the daemon.
 */
export function createStandIn({ holds }: { readonly holds: Holds }): FileNodes & {
  /** What was settled since the last time. */
  takeSettled(): Settled;
} {
  const expired = createExpired();
  const forgotten = new Map<bigint, bigint>();
  let released: (readonly [string, string])[] = [];
  const none: FileCounters = {
    opens: 0,
    passedOpens: 0,
    reads: 0,
    readBytes: 0,
    readsFailed: 0,
    readsExpired: 0,
    fileNodes: 0,
    files: 0,
  };
  return {
    known: () => false,
    give: () => undefined,
    handle(request, port) {
      if (request.op === 'forget') {
        for (const { nodeid, lookups } of request.nodes) forgotten.set(nodeid, (forgotten.get(nodeid) ?? 0n) + lookups);
      } else if (request.op === 'release') {
        port.send(emptyReply(request.unique));
        released.push([String(request.nodeid), String(request.handle)]);
      } else if (request.op === 'read' && expired.has(request.nodeid, Number(request.offset))) {
        port.send(errorReply(request.unique, constants.errno.EIO));
      } else {
        const begin = (key: bigint, left: number) => {
          const timer = setTimeout(() => {
            if (request.op === 'read') {
              const from = Number(request.offset);
              expired.add(request.nodeid, from, from + request.count);
            }
            holds.answer(key, (unique) => errorReply(unique, constants.errno.EIO));
          }, left);
          return () => clearTimeout(timer);
        };
        holds.add(request, port, begin, () => {});
      }
    },
    counters: () => none,
    release() {},
    takeSettled() {
      const settled = {
        forgotten: [...forgotten].map(([node, lookups]) => [String(node), String(lookups)] as const),
        released,
      };
      forgotten.clear();
      released = [];
      return settled;
    },
  };
}
