import { closeSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { ConflictError, NotFoundError } from '../dataset/errors.ts';
import { pidfdOpen } from '../system/calls.ts';
import { tryLock } from '../system/lock.ts';
import { type RingServer, standInForRing } from './fuse/ring-server.ts';
import {
  addSettled,
  copyDescriptors,
  type Hold,
  isGone,
  NOTHING_SETTLED,
  type Serving,
  showHold,
  splitSettled,
} from './keeper-hold.ts';
import { failure, type KeeperReply, type KeeperRequest, onLines, parseKeeperRequest } from './keeper-protocol.ts';

export interface KeeperOptions {
  /** The unix socket's path. Its directory must exist, and be closed to others. */
  readonly socket: string;
  /** Told what happens, a line each. */
  readonly onEvent?: (event: string) => void;
  /** Ends the keeper: what it holds is closed. */
  readonly signal?: AbortSignal;
  /** How long a daemon may be silent before the keeper stands in beside it, in ms; 10,000 without it. */
  readonly patience?: number;
}

/** A daemon that is stopped, or whose main thread is stuck, says nothing for so long, in ms. */
const PATIENCE = 10_000;
/** How often to have sent again what a daemon that is stuck may have read, in ms. */
const BESIDE_CHECK = 1000;
/** How often to look whether a process that closed its connection is gone, in ms. */
const GONE_CHECK = 20;

/**
 * Holds the descriptors of rings across restarts of the daemon, so that the kernel does not give the mounts up. While no daemon serves
 * a ring, the keeper stands in for it: opens and reads wait for the next daemon, may be interrupted, and end with EIO at the deadline.
 * It stands in beside one that gives no sign of life. Resolves when `signal` ends it. Throws ConflictError where a keeper runs already.
 */
export async function runKeeper(options: KeeperOptions): Promise<void> {
  const tell = options.onEvent ?? (() => {});
  using lock = tryLock(`${options.socket}.lock`, 'exclusive');
  if (!lock) throw new ConflictError(`a keeper runs already at ${options.socket}`);
  const keeper = createKeeper(tell, options.patience ?? PATIENCE);
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

function createKeeper(tell: (event: string) => void, patience: number) {
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

  function served(name: string, connection: Socket): Hold {
    const hold = known(name);
    if (hold.server?.connection !== connection) throw new ConflictError(`you do not serve the ring ${name}`);
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
    if (!standIn) return;
    await standIn.release();
    hold.answered = addSettled(hold.answered, standIn.takeSettled());
  }

  async function forget(hold: Hold): Promise<void> {
    if (hold.dropped) return;
    hold.dropped = true;
    if (holds.get(hold.name) === hold) holds.delete(hold.name);
    await endStandIn(hold);
    setServer(hold, undefined);
    closeSync(hold.fd);
    for (const memory of [hold.table, hold.waits]) if (memory !== undefined) closeSync(memory);
  }

  async function standIn(hold: Hold): Promise<void> {
    if (hold.dropped || hold.standIn || !hold.settled.resend) return;
    const silent = hold.server && `process ${hold.server.pid} gives no sign of life, standing in beside it`;
    tell(`${hold.name}: ${silent ?? 'no daemon serves it, standing in'}`);
    let server: RingServer;
    try {
      server = await standInForRing(hold.fd, hold.settled, hold.connection, hold.deadline, hold.waits);
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

  // A daemon that is stopped answers nothing that it had read, also not that a process is to be killed. What it reads all the same is
  // sent again, so that deadlines and interrupts hold; whichever answer comes first is the one, the kernel refuses the other.
  const looking = setInterval(
    () => {
      const now = performance.now();
      for (const hold of holds.values()) {
        if (!hold.server || now - hold.heard < patience) continue;
        if (!hold.standIn) void inTurn(hold.name, () => standInBeside(hold));
        else if (now - hold.heard > patience + BESIDE_CHECK) hold.standIn.resend();
      }
    },
    Math.min(BESIDE_CHECK, patience / 4),
  );

  async function standInBeside(hold: Hold): Promise<void> {
    if (hold.server && performance.now() - hold.heard >= patience) await standIn(hold);
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
    const reply = { ok: true, pid: process.pid, patience } as const;
    switch (request.do) {
      case 'list':
        return { ...reply, rings: [...holds.values()].map(showHold) };
      case 'hold': {
        const { name, pid, settled, deadline, connection: number } = request;
        const before = holds.get(name);
        if (before) refuseIfServed(before, pid);
        const [fd, table, waits] = copyDescriptors(pid, [request.fd, request.table, request.waits]);
        const pidfd = pidfdOpen(pid);
        if (before) await forget(before);
        const server: Serving = { connection, pid, pidfd };
        const hold: Hold = {
          name,
          fd: fd!,
          table,
          waits,
          settled,
          deadline,
          connection: number,
          server,
          standIn: undefined,
          heard: performance.now(),
          answered: NOTHING_SETTLED,
          dropped: false,
        };
        holds.set(name, hold);
        tell(`${name}: held for process ${pid}`);
        if (connection.destroyed) void lost(hold, connection);
        return { ...reply, rings: [showHold(hold)] };
      }
      case 'take': {
        const hold = known(request.name);
        refuseIfServed(hold, request.pid);
        const pidfd = pidfdOpen(request.pid);
        await endStandIn(hold);
        setServer(hold, { connection, pid: request.pid, pidfd });
        hold.heard = performance.now();
        hold.deadline = request.deadline ?? hold.deadline;
        tell(`${hold.name}: taken by process ${request.pid}`);
        if (connection.destroyed) void lost(hold, connection);
        return { ...reply, rings: [showHold(hold)] };
      }
      case 'ping': {
        const hold = served(request.name, connection);
        hold.heard = performance.now();
        const stoodIn = hold.standIn !== undefined;
        if (stoodIn) {
          tell(`${hold.name}: process ${hold.server?.pid} is back`);
          await endStandIn(hold);
        }
        return { ...reply, stoodIn };
      }
      case 'settled': {
        const hold = served(request.name, connection);
        const { now, later } = splitSettled(hold.answered);
        hold.answered = later;
        return { ...reply, answered: now };
      }
      case 'leave': {
        const hold = served(request.name, connection);
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
      clearInterval(looking);
      for (const connection of connections) connection.destroy();
      await Promise.all([...holds.values()].map((hold) => inTurn(hold.name, () => forget(hold))));
    },
  };
}
