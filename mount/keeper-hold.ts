import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { pidfdGetfd, pidfdOpen } from '../system/calls.ts';
import { pollReadable } from '../system/calls-fuse.ts';
import type { RingMemory, RingServer } from './fuse/ring-server.ts';
import type { Settled } from './fuse/ring-stand-in.ts';
import type { HeldRing, RingFacts } from './keeper-protocol.ts';

/** A ring whose descriptor the keeper has, with copies of its daemon's memory. */
export interface Hold extends RingFacts, RingMemory {
  readonly name: string;
  readonly fd: number;
  /** Of the daemon that served last. */
  deadline: number;
  server: Serving | undefined;
  standIn: RingServer | undefined;
  /** When the daemon was heard of, in ms as `performance.now()`. */
  heard: number;
  /** What a stand-in answered, and no daemon was told yet. */
  answered: Settled;
  dropped: boolean;
}

/** Who serves a ring: its connection, and the process by a descriptor that stays true when the number is used again. */
export interface Serving {
  readonly connection: Socket;
  readonly pid: number;
  readonly pidfd: number;
}

export const NOTHING_SETTLED: Settled = { forgotten: [], released: [] };

/** How much of what was settled goes into one reply: lines have an end. */
const SETTLED_AT_ONCE = 400;

/** Copies of a process's descriptors: all, or none and an error. */
export function copyDescriptors(pid: number, numbers: readonly (number | undefined)[]): (number | undefined)[] {
  const pidfd = pidfdOpen(pid);
  const copies: (number | undefined)[] = [];
  try {
    for (const number of numbers) copies.push(number === undefined ? undefined : pidfdGetfd(pidfd, number));
    return copies;
  } catch (error) {
    for (const copy of copies) if (copy !== undefined) closeSync(copy);
    throw error;
  } finally {
    closeSync(pidfd);
  }
}

export function showHold({ name, fd, table, waits, settled, deadline, connection, server, standIn }: Hold): HeldRing {
  return {
    name,
    fd,
    table,
    waits,
    settled,
    deadline,
    connection,
    served: server !== undefined && !isGone(server),
    standingIn: standIn !== undefined,
  };
}

/** A pidfd becomes readable when its process has ended, also before its parent has asked for its status. */
export function isGone({ pidfd }: Serving): boolean {
  return pollReadable([pidfd], 0).length > 0;
}

export function addSettled(before: Settled, more: Settled): Settled {
  return {
    forgotten: [...before.forgotten, ...more.forgotten],
    released: [...before.released, ...more.released],
  };
}

/** Cuts off what goes into the next reply. */
export function splitSettled({ forgotten, released }: Settled): { readonly now: Settled; readonly later: Settled } {
  return {
    now: { forgotten: forgotten.slice(0, SETTLED_AT_ONCE), released: released.slice(0, SETTLED_AT_ONCE) },
    later: { forgotten: forgotten.slice(SETTLED_AT_ONCE), released: released.slice(SETTLED_AT_ONCE) },
  };
}
