import type { Socket } from 'node:net';
import { type ErrorKind, errorOfKind, InvalidError, LarderError } from '../dataset/errors.ts';
import type { Negotiated } from './fuse/negotiate.ts';
import type { RingMemory } from './fuse/ring-server.ts';
import type { Settled } from './fuse/ring-stand-in.ts';

/**
 * What a daemon and the keeper say to each other: one JSON document a line, over a unix socket that only root may open. Descriptors
 * are not sent: who needs one copies it out of the other process with pidfd_getfd(2), so both name their process and the number. The
 * one that held or took a ring serves it until its process ends, or until it leaves it.
 */
export type KeeperRequest =
  | { readonly do: 'list' }
  /** Keep a copy of descriptor `fd` of process `pid`, and of the memory that the next one gets. */
  | ({
      readonly do: 'hold';
      readonly name: string;
      readonly pid: number;
      readonly fd: number;
    } & RingMemory &
      RingFacts)
  /** Let me serve this one from now on, with this deadline; the reply says which descriptors to copy. */
  | { readonly do: 'take'; readonly name: string; readonly pid: number; readonly deadline?: number }
  /** I live. The reply says whether you stood in for me meanwhile: then what you had read is to be sent again. */
  | { readonly do: 'ping'; readonly name: string }
  /** What did you answer while you stood in? To be asked until it is nothing. */
  | { readonly do: 'settled'; readonly name: string }
  /** I serve it no longer, though my process goes on. */
  | { readonly do: 'leave'; readonly name: string }
  /** Close it. */
  | { readonly do: 'drop'; readonly name: string };

/** What who takes a ring over must know. */
export interface RingFacts {
  readonly settled: Negotiated;
  /** How long an open waits at most, in ms, also while only the keeper is there. */
  readonly deadline: number;
  /** The kernel's number of the connection. */
  readonly connection: number;
}

/** With the numbers that the memory has in the keeper. */
export interface HeldRing extends RingFacts, RingMemory {
  readonly name: string;
  /** The descriptor's number in the keeper. */
  readonly fd: number;
  /** A daemon serves it; otherwise the keeper stands in: it lets opens wait, and ends those that are interrupted or overdue. */
  readonly served: boolean;
  /** The keeper stands in: no daemon serves it, or one that gives no sign of life. */
  readonly standingIn: boolean;
}

export type KeeperReply =
  | {
      readonly ok: true;
      readonly pid: number;
      readonly rings?: readonly HeldRing[];
      /** How long a daemon may be silent, in ms, before the keeper stands in beside it. */
      readonly patience?: number;
      readonly stoodIn?: boolean;
      readonly answered?: Settled;
    }
  | { readonly ok: false; readonly kind: ErrorKind; readonly message: string };

export function failure(error: unknown): KeeperReply {
  const kind = error instanceof LarderError ? error.kind : 'unavailable';
  return { ok: false, kind, message: error instanceof Error ? error.message : String(error) };
}

/** The error that the other side meant. */
export function errorOf(reply: { readonly kind: ErrorKind; readonly message: string }): LarderError {
  return errorOfKind(reply.kind, reply.message);
}

/** Checks what came over the socket. */
export function parseKeeperRequest(line: string): KeeperRequest {
  const refuse = (what: string) => new InvalidError(`the keeper does not understand this: ${what}`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new InvalidError('the keeper understands one JSON document a line', { cause: error });
  }
  if (typeof value !== 'object' || value === null) throw refuse('not an object');
  const request = value as Record<string, unknown>;
  const numbers = (...keys: string[]) =>
    keys.every((key) => Number.isInteger(request[key]) && Number(request[key]) >= 0);
  const named = typeof request.name === 'string' && request.name.length > 0 && request.name.length <= 200;
  const settled = request.settled as Partial<Record<keyof Negotiated, unknown>> | undefined;
  const valid = {
    list: () => true,
    hold: () =>
      named &&
      numbers('pid', 'fd', 'deadline', 'connection') &&
      (request.table === undefined || numbers('table')) &&
      (request.waits === undefined || numbers('waits')) &&
      typeof settled?.minor === 'number' &&
      typeof settled.resend === 'boolean' &&
      typeof settled.parallel === 'boolean' &&
      typeof settled.passthrough === 'boolean' &&
      typeof settled.maxRead === 'number',
    take: () => named && numbers('pid') && (request.deadline === undefined || numbers('deadline')),
    ping: () => named,
    settled: () => named,
    leave: () => named,
    drop: () => named,
  }[String(request.do)];
  if (!valid) throw refuse(`do: ${JSON.stringify(request.do)}`);
  if (!valid()) throw refuse(`a wrong or missing field of ${request.do}`);
  return value as KeeperRequest;
}

const LONGEST_LINE = 64 * 1024;

/** Calls `take` with each whole line. A peer that sends an endless one is cut off. */
export function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (data: string) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop()!;
    if (rest.length > LONGEST_LINE) socket.destroy();
    for (const line of lines) take(line);
  });
}
