import { closeSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { ConflictError, NotFoundError } from '../dataset/errors.ts';
import { pidfdGetfd, pidfdOpen } from '../system/calls.ts';
import { pollReadable } from '../system/calls-fuse.ts';
import { tryLock } from '../system/lock.ts';
import { type RingServer, standInForRing } from './fuse/ring-server.ts';
import {
  failure,
  type HeldRing,
  type KeeperReply,
  type KeeperRequest,
  onLines,
  parseKeeperRequest,
  type RingFacts,
} from './keeper-protocol.ts';

export interface KeeperOptions {
  /** The unix socket's path. Its directory must exist, and be closed to others. */
  readonly socket: string;
  /** Told what happens, a line each. */
  readonly onEvent?: (event: string) => void;
  /** Ends the keeper: what it holds is closed. */
  readonly signal?: AbortSignal;
}

interface Hold extends RingFacts {
  readonly name: string;
  readonly fd: number;
  server: Serving | undefined;
  standIn: RingServer | undefined;
  dropped: boolean;
}

/** Who serves a ring: its connection, and the process by a descriptor that stays true when the number is used again. */
interface Serving {
  readonly connection: Socket;
  readonly pid: number;
  readonly pidfd: number;
}

/** How often to look whether a process that closed its connection is gone, in ms. */
const GONE_CHECK = 20;

/**
 * Holds the descriptors of rings across restarts of the daemon, so that the kernel does not give the mounts up. While no daemon serves
 * a ring, the keeper stands in for it: opens wait for the next daemon, may be interrupted, and end with EIO at the deadline. Resolves
 * when `signal` ends it. Throws ConflictError where a keeper runs already.
 */
export async function runKeeper(options: KeeperOptions): Promise<void> {
  const tell = options.onEvent ?? (() => {});
  using lock = tryLock(`${options.socket}.lock`, 'exclusive');
  if (!lock) throw new ConflictError(`a keeper runs already at ${options.socket}`);
  const keeper = createKeeper(tell);
  // Whoever had the socket is gone: the lock says so.
  rmSync(options.socket, { force: true });
  const server = createServer((connection) => keeper.serve(connection));
  await listen(server, options.socket);
  tell(`keeping, as process ${process.pid}`);
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  options.signal?.addEventListener('abort', () => stop(), { once: true });
  if (!options.signal?.aborted) await stopped;
  server.close();
  await keeper.close();
  rmSync(options.socket, { force: true });
}

async function listen(server: Server, path: string): Promise<void> {
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
}

function createKeeper(tell: (event: string) => void) {
  const holds = new Map<string, Hold>();
  const connections = new Set<Socket>();
  // Changes of one ring happen one after the other.
  const turns = new Map<string, Promise<unknown>>();

  function inTurn<T>(name: string, act: () => Promise<T>): Promise<T> {
    const turn = (turns.get(name) ?? Promise.resolve()).then(act, act);
    turns.set(name, turn);
    const done = () => {
      if (turns.get(name) === turn) turns.delete(name);
    };
    turn.then(done, done);
    return turn;
  }

  function known(name: string): Hold {
    const hold = holds.get(name);
    if (!hold) throw new NotFoundError(`the keeper holds no ring ${name}`);
    return hold;
  }

  function refuseIfServed(hold: Hold, pid: number): void {
    const server = hold.server;
    if (server && server.pid !== pid && !isGone(server))
      throw new ConflictError(`process ${server.pid} serves the ring ${hold.name}`);
  }

  function setServer(hold: Hold, server: Serving | undefined): void {
    if (hold.server) closeSync(hold.server.pidfd);
    hold.server = server;
  }

  async function endStandIn(hold: Hold): Promise<void> {
    const standIn = hold.standIn;
    hold.standIn = undefined;
    await standIn?.release();
  }

  async function forget(hold: Hold): Promise<void> {
    if (hold.dropped) return;
    hold.dropped = true;
    if (holds.get(hold.name) === hold) holds.delete(hold.name);
    await endStandIn(hold);
    setServer(hold, undefined);
    closeSync(hold.fd);
  }

  async function standIn(hold: Hold): Promise<void> {
    if (hold.dropped || hold.server || hold.standIn || !hold.settled.resend) return;
    tell(`${hold.name}: no daemon serves it, standing in`);
    let server: RingServer;
    try {
      server = await standInForRing(hold.fd, hold.settled, hold.deadline);
    } catch (error) {
      tell(`${hold.name}: cannot stand in, so it is closed: ${error}`);
      return await forget(hold);
    }
    hold.standIn = server;
    const over = (why: string) => {
      if (hold.standIn !== server) return;
      tell(`${hold.name}: ${why}`);
      void inTurn(hold.name, () => forget(hold));
    };
    server.ended.then((end) => {
      if (end !== 'stopped') over(end);
    }, over);
  }

  /** A connection was closed. Its process may still be reading: only when it is gone, or has said so, may another read. */
  async function lost(hold: Hold, connection: Socket): Promise<void> {
    while (hold.server?.connection === connection && !hold.dropped) {
      if (isGone(hold.server)) {
        await inTurn(hold.name, async () => {
          if (hold.server?.connection !== connection) return;
          setServer(hold, undefined);
          await standIn(hold);
        });
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, GONE_CHECK));
    }
  }

  async function act(request: KeeperRequest, connection: Socket): Promise<KeeperReply> {
    const reply = { ok: true, pid: process.pid } as const;
    switch (request.do) {
      case 'list':
        return { ...reply, rings: [...holds.values()].map(show) };
      case 'hold': {
        const { name, pid, settled, deadline, connection: number } = request;
        const before = holds.get(name);
        if (before) refuseIfServed(before, pid);
        const pidfd = pidfdOpen(pid);
        let fd: number;
        try {
          fd = pidfdGetfd(pidfd, request.fd);
        } catch (error) {
          closeSync(pidfd);
          throw error;
        }
        if (before) await forget(before);
        const server = { connection, pid, pidfd };
        const hold = { name, fd, settled, deadline, connection: number, server, standIn: undefined, dropped: false };
        holds.set(name, hold);
        tell(`${name}: held for process ${pid}`);
        if (connection.destroyed) void lost(hold, connection);
        return { ...reply, rings: [show(hold)] };
      }
      case 'take': {
        const hold = known(request.name);
        refuseIfServed(hold, request.pid);
        const pidfd = pidfdOpen(request.pid);
        await endStandIn(hold);
        setServer(hold, { connection, pid: request.pid, pidfd });
        tell(`${hold.name}: taken by process ${request.pid}`);
        if (connection.destroyed) void lost(hold, connection);
        return { ...reply, rings: [show(hold)] };
      }
      case 'leave': {
        const hold = known(request.name);
        if (hold.server?.connection !== connection) throw new ConflictError(`you do not serve the ring ${hold.name}`);
        setServer(hold, undefined);
        await standIn(hold);
        return reply;
      }
      case 'drop': {
        const hold = known(request.name);
        if (hold.server?.connection !== connection && hold.server && !isGone(hold.server))
          throw new ConflictError(`process ${hold.server.pid} serves the ring ${hold.name}`);
        await forget(hold);
        tell(`${hold.name}: dropped`);
        return reply;
      }
    }
  }

  return {
    serve(connection: Socket): void {
      connections.add(connection);
      connection.on('error', () => connection.destroy());
      connection.on('close', () => {
        connections.delete(connection);
        for (const hold of holds.values()) if (hold.server?.connection === connection) void lost(hold, connection);
      });
      onLines(connection, async (line) => {
        let reply: KeeperReply;
        try {
          const request = parseKeeperRequest(line);
          const name = 'name' in request ? request.name : '';
          reply = await inTurn(name, () => act(request, connection));
        } catch (error) {
          reply = failure(error);
        }
        if (!connection.destroyed) connection.write(`${JSON.stringify(reply)}\n`);
      });
    },
    async close(): Promise<void> {
      for (const connection of connections) connection.destroy();
      await Promise.all([...holds.values()].map((hold) => inTurn(hold.name, () => forget(hold))));
    },
  };
}

function show({ name, fd, settled, deadline, connection, server }: Hold): HeldRing {
  return { name, fd, settled, deadline, connection, served: server !== undefined && !isGone(server) };
}

/** A pidfd becomes readable when its process has ended, also before its parent has asked for its status. */
function isGone({ pidfd }: Serving): boolean {
  return pollReadable([pidfd], 0).length > 0;
}
