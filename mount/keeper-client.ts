import { closeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import { pidfdGetfd, pidfdOpen } from '../system/calls.ts';
import {
  errorOf,
  type HeldRing,
  type KeeperReply,
  type KeeperRequest,
  onLines,
  type RingFacts,
} from './keeper-protocol.ts';

/** A connection to the keeper. What was held or taken over it is served by this process until it ends or leaves. */
export interface KeeperClient {
  list(): Promise<{ readonly pid: number; readonly rings: readonly HeldRing[] }>;
  /** Has the keeper keep a copy of our descriptor. Its pid. ConflictError where another process serves one of that name. */
  hold(name: string, fd: number, facts: RingFacts): Promise<number>;
  /** Our own copy of a descriptor that the keeper holds; the caller closes it. NotFoundError, or ConflictError where it is served. */
  take(name: string): Promise<{ readonly fd: number; readonly ring: HeldRing; readonly pid: number }>;
  leave(name: string): Promise<void>;
  drop(name: string): Promise<void>;
  close(): void;
  /** The keeper is gone, or `close` was called. */
  readonly closed: Promise<void>;
}

/** Connects; undefined where no keeper listens. */
export async function connectKeeper(path: string): Promise<KeeperClient | undefined> {
  let socket: Socket;
  try {
    socket = await open(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ECONNREFUSED')) return undefined;
    throw error;
  }
  const waiting: { resolve(reply: KeeperReply): void; reject(error: Error): void }[] = [];
  const gone = () => new UnavailableError(`the keeper at ${path} is gone: start it again with 'larder keeper'`);
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      for (const one of waiting.splice(0)) one.reject(gone());
      resolve();
    });
  });
  socket.on('error', () => socket.destroy());
  onLines(socket, (line) => waiting.shift()?.resolve(JSON.parse(line) as KeeperReply));

  async function ask(request: KeeperRequest) {
    if (socket.destroyed) throw gone();
    const { promise, resolve, reject } = Promise.withResolvers<KeeperReply>();
    waiting.push({ resolve, reject });
    socket.write(`${JSON.stringify(request)}\n`);
    const reply = await promise;
    if (!reply.ok) throw errorOf(reply);
    return { pid: reply.pid, rings: reply.rings ?? [] };
  }

  return {
    closed,
    list: () => ask({ do: 'list' }),
    async hold(name, fd, facts) {
      const { settled, deadline, connection } = facts;
      return (await ask({ do: 'hold', name, pid: process.pid, fd, settled, deadline, connection })).pid;
    },
    async take(name) {
      const { pid, rings } = await ask({ do: 'take', name, pid: process.pid });
      const ring = rings[0]!;
      try {
        return { fd: copyDescriptor(pid, ring.fd), ring, pid };
      } catch (error) {
        await ask({ do: 'leave', name });
        throw new UnavailableError(
          `cannot take the ring from the keeper, process ${pid}: run both as root in one pid namespace`,
          {
            cause: error,
          },
        );
      }
    },
    async leave(name) {
      await ask({ do: 'leave', name });
    },
    async drop(name) {
      await ask({ do: 'drop', name });
    },
    close() {
      socket.destroy();
    },
  };
}

function copyDescriptor(pid: number, fd: number): number {
  const pidfd = pidfdOpen(pid);
  try {
    return pidfdGetfd(pidfd, fd);
  } finally {
    closeSync(pidfd);
  }
}

async function open(path: string): Promise<Socket> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return socket;
}
