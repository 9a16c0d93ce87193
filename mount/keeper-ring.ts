import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectionNumber } from './fuse/device.ts';
import { joinRing, mountRing, type RingServer, type RingServerOptions } from './fuse/ring-server.ts';
import { connectKeeper, type KeeperClient, type KeptBy } from './keeper-client.ts';
import { unmount } from './unmount.ts';

export interface KeptRingOptions extends RingServerOptions {
  /** Where the ring is mounted: an existing directory of this daemon's own. */
  readonly target: string;
  /** The keeper's socket. */
  readonly socket: string;
  /** The ring's name at the keeper. */
  readonly name?: string;
  readonly onEvent?: (event: string) => void;
}

export interface KeptRing {
  readonly server: RingServer;
  /**
   * `joined`: an earlier daemon's ring goes on. `mounted`: a new one. `replaced`: a new one, and overlays that were mounted on the old
   * one cannot be joined to it: what they lack must be hydrated into objects/.
   */
  readonly how: 'mounted' | 'joined' | 'replaced';
  /** The keeper's process, undefined while none holds this ring. */
  keeperPid(): number | undefined;
  /** Stops serving and hands the ring to the keeper, for the next daemon. Without a keeper, what waits ends with an error. */
  leave(): Promise<void>;
  /** Ends the ring for good: unmounts it and has the keeper drop it. */
  remove(): Promise<void>;
}

/** How often to look for a keeper while there is none, in ms. */
const KEEPER_CHECK = 500;
/** How often a daemon says at least that it lives, in ms. */
const LONGEST_SILENCE = 2000;

/**
 * Serves the node's ring: takes it over from the keeper if that holds it, else mounts it, and sees to it that a keeper holds it as long
 * as there is one, also when that comes later or is started again.
 */
export async function openKeptRing(options: KeptRingOptions): Promise<KeptRing> {
  const { target, socket, name = 'ring' } = options;
  const tell = options.onEvent ?? (() => {});
  const serving: RingServerOptions = { onNotice: tell, ...options };
  let client = await connectKeeper(socket);
  let kept: KeptBy | undefined;
  const { server, how } = await begin();
  const connection = connectionNumber(target) ?? 0;
  const facts = { settled: server.settled, deadline: options.deadline, connection };
  const ending = new AbortController();
  const watching = watch();

  async function begin(): Promise<{ server: RingServer; how: KeptRing['how'] }> {
    const mounted = connectionNumber(target);
    const held = (await client?.list())?.rings.find((ring) => ring.name === name);
    if (client && held && mounted === held.connection) {
      const taken = await client.take(name, options.deadline);
      kept = taken;
      try {
        const joined = await joinRing(taken.fd, taken.ring.settled, held.connection, serving, taken.memory);
        await settle(client, joined);
        return { server: joined, how: 'joined' };
      } catch (error) {
        closeSync(taken.fd);
        await client.leave(name);
        throw error;
      }
    }
    // Whatever is mounted there has no daemon any more, and can have none.
    if (mounted !== undefined) await unmount(target);
    return { server: await mountRing(target, serving), how: (mounted ?? held) ? 'replaced' : 'mounted' };
  }

  async function hold(keeper: KeeperClient): Promise<void> {
    kept = await keeper.hold(name, server.fd, facts, server.memory);
    tell(`the keeper, process ${kept.pid}, holds the ring`);
  }

  /** Tells the keeper that we live, so that it need not stand in; after it did, what it had read is sent again, to us. */
  async function pingUntilClosed(keeper: KeeperClient, patience: number): Promise<void> {
    const ended = Promise.race([keeper.closed, aborted(ending.signal)]);
    const interval = Math.max(1, Math.min(LONGEST_SILENCE, patience / 4));
    let going = true;
    void ended.then(() => {
      going = false;
    });
    while (going) {
      if (await keeper.ping(name)) {
        tell('the keeper stood in for us: we were silent for too long');
        await settle(keeper, server);
        server.resend();
      }
      await Promise.race([ended, sleep(interval, undefined, { ref: false })]);
    }
  }

  /** Catches up with what the keeper answered for us. */
  async function settle(keeper: KeeperClient, joined: RingServer): Promise<void> {
    for (;;) {
      const answered = await keeper.settled(name);
      if (!answered) return;
      joined.settle(answered);
    }
  }

  /** Keeps a keeper holding it. A kernel that cannot send requests again has no use for one. */
  async function watch(): Promise<void> {
    if (!server.settled.resend) return;
    const { signal } = ending;
    let told = '';
    while (!signal.aborted) {
      try {
        client ??= await connectKeeper(socket);
        if (client && !kept) await hold(client);
        if (client && kept) {
          await pingUntilClosed(client, kept.patience).catch((error) => {
            if (!client?.isClosed()) throw error;
          });
          if (signal.aborted) return;
          tell('the keeper is gone');
          kept = undefined;
          client = undefined;
          continue;
        }
      } catch (error) {
        if (String(error) !== told) tell(`no keeper holds the ring: ${error}`);
        told = String(error);
        client?.close();
        client = undefined;
        kept = undefined;
      }
      await sleep(KEEPER_CHECK, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async function stop(): Promise<void> {
    ending.abort();
    await watching;
    await server.release();
  }

  return {
    server,
    how,
    keeperPid: () => kept?.pid,
    async leave() {
      await stop();
      if (kept) await client?.leave(name);
      client?.close();
      closeSync(server.fd);
    },
    async remove() {
      await unmount(target);
      await stop();
      if (kept) await client?.drop(name);
      client?.close();
      closeSync(server.fd);
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
