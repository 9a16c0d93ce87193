import { stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import { ownAddresses, parseAddress } from './address.ts';
import { type PeerSource, type Resolver, readPeers, systemResolver } from './peer-source.ts';
import { peerSeed, type Seed } from './rendezvous.ts';

export interface Peer {
  /** `HOST:PORT`, as every node calls it. */
  readonly name: string;
  readonly seed: Seed;
  /** This node. */
  readonly self: boolean;
}

/** The nodes that share, this one among them, as they are known at the moment. */
export interface PeerList {
  readonly peers: readonly Peer[];
  /** It was found out that this name is this node. */
  isSelf(name: string): void;
  /** Reads the list anew; also done at intervals. */
  refresh(): Promise<void>;
  close(): void;
}

export interface PeerListOptions {
  readonly source: PeerSource;
  /** How the list calls this node, where its addresses do not tell. */
  readonly self?: string | undefined;
  /** On which this node listens. */
  readonly port?: number | undefined;
  /** Between two looks at the file or the name, in milliseconds. */
  readonly interval: number;
  readonly resolver?: Resolver;
  readonly onWarning: (message: string) => void;
}

/** What cannot be read at the moment leaves the list as it was: at the start, with this node alone. */
export async function openPeerList(options: PeerListOptions): Promise<PeerList> {
  const { source, self, port, interval, resolver = systemResolver, onWarning } = options;
  const selves = new Set<string>(self === undefined ? [] : [self]);
  let names: readonly string[] = [];
  let peers: readonly Peer[] = [];
  let seen = '';
  let warned = '';

  const make = () => {
    const all = self === undefined || names.includes(self) ? names : [...names, self];
    peers = all.map((name) => ({ name, seed: peerSeed(name), self: selves.has(name) }));
  };

  async function refresh(): Promise<void> {
    try {
      const version = source.kind === 'file' ? await versionOf(source.path) : '';
      if (version !== '' && version === seen) return;
      names = await readPeers(source, resolver);
      seen = version;
      warned = '';
      if (self === undefined && port !== undefined)
        for (const name of await ownNames(names, port, resolver)) selves.add(name);
      make();
    } catch (error) {
      const { message } = error as Error;
      if (message !== warned) onWarning(`the list of neighbours stays as it was: ${message}`);
      warned = message;
    }
  }

  make();
  await refresh();
  let refreshing = Promise.resolve();
  const timer = setInterval(() => {
    refreshing = refreshing.then(refresh);
  }, interval);
  timer.unref();
  return {
    get peers() {
      return peers;
    },
    isSelf(name) {
      selves.add(name);
      make();
    },
    refresh,
    close: () => clearInterval(timer),
  };
}

/** Those of the names that are this node: an address of its own, with its port. */
async function ownNames(names: readonly string[], port: number, resolver: Resolver): Promise<string[]> {
  const own = ownAddresses();
  const found: string[] = [];
  for (const name of names) {
    const address = parseAddress(name, 'a neighbour');
    if (address.port !== port) continue;
    // A name that cannot be resolved is another node's, or is recognized when it answers.
    const hosts = isIP(address.host) ? [address.host] : await resolver.lookup(address.host).catch(() => []);
    if (hosts.some((host) => own.has(host))) found.push(name);
  }
  return found;
}

/** Changes when the file does, also where it is a link to another. */
async function versionOf(path: string): Promise<string> {
  const { ino, size, mtimeMs } = await stat(path);
  return `${ino} ${size} ${mtimeMs}`;
}
