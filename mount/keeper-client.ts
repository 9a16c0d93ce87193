import { connect, type Socket } from 'node:net';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import type { RingMemory } from './fuse/ring-server.ts';
import type { Settled } from './fuse/ring-stand-in.ts';
import { copyDescriptors } from './keeper-hold.ts';
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
  hold(name: string, fd: number, facts: RingFacts, memory?: RingMemory): Promise<KeptBy>;
  /** Our own copies of the descriptors that the keeper holds; the caller closes them. NotFoundError, or ConflictError where it is served. */
  take(
    name: string,
    deadline: number,
  ): Promise<KeptBy & { readonly fd: number; readonly memory: RingMemory; readonly ring: HeldRing }>;
  /** Says that we live. Whether the keeper stood in for us meanwhile. */
  ping(name: string): Promise<boolean>;
  /** What it answered then, a part at a time, until there is no more. */
  settled(name: string): Promise<Settled | undefined>;
  leave(name: string): Promise<void>;
  drop(name: string): Promise<void>;
  close(): void;
  /** The keeper is gone, or `close` was called. */
  readonly closed: Promise<void>;
  isClosed(): boolean;
}

/** Which process keeps a ring, and how long it lets us be silent, in ms. */
export interface KeptBy {
  readonly pid: number;
  readonly patience: number;
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
    return { ...reply, rings: reply.rings ?? [], patience: reply.patience ?? Number.POSITIVE_INFINITY };
  }

  return {
    closed,
    isClosed: () => socket.destroyed,
    list: () => ask({ do: 'list' }),
    async hold(name, fd, facts, memory) {
      const { settled, deadline, connection } = facts;
      return await ask({ do: 'hold', name, pid: process.pid, fd, ...memory, settled, deadline, connection });
    },
    async take(name, deadline) {
      const { pid, patience, rings } = await ask({ do: 'take', name, pid: process.pid, deadline });
      const ring = rings[0]!;
      try {
        const [fd, table, waits] = copyDescriptors(pid, [ring.fd, ring.table, ring.waits]);
        return { fd: fd!, memory: { table, waits }, ring, pid, patience };
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
    ping: async (name) => (await ask({ do: 'ping', name })).stoodIn === true,
    async settled(name) {
      const { answered } = await ask({ do: 'settled', name });
      return answered && answered.forgotten.length + answered.released.length > 0 ? answered : undefined;
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

async function open(path: string): Promise<Socket> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return socket;
}
