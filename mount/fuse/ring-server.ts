import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { UnavailableError } from '../../dataset/errors.ts';
import { UMOUNT, umount } from '../../system/calls.ts';
import { mountFuse } from './device.ts';
import { type Negotiated, negotiate } from './negotiate.ts';
import { errorReply, initReply } from './reply.ts';
import type { FuseRequest } from './request.ts';
import { createRing, type RingCounters, type RingOptions } from './ring.ts';
import { createTreeState } from './ring-tree.ts';
import { type FuseSession, type SessionEnd, startSession } from './session.ts';

export interface RingServerOptions extends RingOptions {
  /** Features to ask the kernel for, instead of all that are useful: what an older kernel lacks can be left out. */
  readonly features?: bigint;
}

/** A ring that is being served by this process. */
export interface RingServer {
  /** /dev/fuse. Belongs to the caller, who closes it after `release`. */
  readonly fd: number;
  readonly settled: Negotiated;
  counters(): RingCounters & FuseSession['counters'];
  /** Why the reading ended: `unmounted`, `aborted`, or `stopped` by `release`. */
  readonly ended: Promise<SessionEnd>;
  /** Stops serving. What waits stays unanswered, for whoever takes the descriptor over; closing its last copy ends it with an error. */
  release(): Promise<void>;
}

/**
 * Mounts a ring at `target`, an empty directory, and serves it. This process may touch the ring's directories as it likes, for a
 * thread of its own answers for them. What it must not do with a synchronous call is to open a file of an overlay on it that is not
 * cached: it would wait for itself.
 */
export async function mountRing(target: string, options: RingServerOptions): Promise<RingServer> {
  const fd = mountFuse(target);
  try {
    return await serve(fd, undefined, options);
  } catch (error) {
    umount(target, UMOUNT.detach);
    closeSync(fd);
    throw error;
  }
}

/**
 * Goes on serving a ring whose daemon is gone: `fd` is a copy of its descriptor, `settled` what it had agreed on. What waited
 * at that time is sent again and served.
 */
export async function joinRing(fd: number, settled: Negotiated, options: RingServerOptions): Promise<RingServer> {
  if (!settled.resend)
    throw new UnavailableError(
      'the ring of an earlier daemon cannot be taken over on this kernel: Linux 6.9 is needed. Files that are cached go on to be read; mount anew for the others',
    );
  return await serve(fd, settled, options);
}

async function serve(fd: number, known: Negotiated | undefined, options: RingServerOptions): Promise<RingServer> {
  const tree = createTreeState();
  const ring = createRing(tree, options);
  const { promise: negotiated, resolve: settle, reject: refuse } = Promise.withResolvers<Negotiated>();
  if (known) settle(known);
  const handle = (request: FuseRequest, port: FuseSession) => {
    if (request.op !== 'init') return ring.handle(request, port);
    const result = negotiate(request, options.features);
    if ('refused' in result) {
      port.send(errorReply(request.unique, constants.errno.EPROTO));
      refuse(new UnavailableError(`${result.refused}: a newer kernel is needed`));
    } else {
      port.send(initReply(request.unique, result.answer));
      if (result.settled) settle(result.settled);
    }
  };
  const atOnce = { module: new URL('./ring-tree.ts', import.meta.url), shared: tree.buffer };
  const session = startSession({ fd, atOnce, handle });
  const early = session.ended.then((end) => {
    throw new UnavailableError(`the ring's FUSE connection was ${end} before it was set up`);
  });
  let settled: Negotiated;
  try {
    if (known) session.resend();
    settled = await Promise.race([negotiated, early]);
  } catch (error) {
    early.catch(() => {});
    await session.stop().catch(() => {});
    throw error;
  }
  return {
    fd,
    settled,
    ended: session.ended,
    counters: () => ({ ...ring.counters(), ...session.counters }),
    async release() {
      await session.stop();
      ring.release();
    },
  };
}
