import { execFileSync, spawnSync } from 'node:child_process';

/** Why no network of namespaces can be made here; undefined where one can. */
export const whyNoNetworks: string | undefined = lack();

function lack(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  for (const program of ['ip', 'tc', 'nsenter', 'unshare'])
    if (spawnSync(program, ['-V']).error !== undefined) return `there is no ${program}`;
  if (spawnSync('unshare', ['-n', 'true']).status !== 0) return 'there are no network namespaces';
  return undefined;
}

export const hasNetworks = whyNoNetworks === undefined;

if (!hasNetworks) console.warn(`skipped, what needs network namespaces: ${whyNoNetworks}`);

/** What a link lets through in each direction, in bytes a second. */
export interface Link {
  readonly rate: number;
}

/** A switch in this process's network namespace, which must be its own, with this machine at it. */
export interface Switch {
  /** This machine's address at it. */
  readonly address: string;
  /** Plugs the network namespace of a process in. @returns its address */
  plug(pid: number, link: Link): string;
}

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const shape = (device: string, { rate }: Link) => [
  ...['qdisc', 'add', 'dev', device, 'root', 'tbf', 'rate', `${Math.round(rate * 8)}bit`],
  // Small enough that a reader of a short dataset notices the rate, large enough for the timer of the queue.
  ...['burst', String(Math.max(64 * 1024, Math.round(rate / 100))), 'latency', '100ms'],
];

/** @param link of this machine, where the bucket is */
export function makeSwitch(link: Link): Switch {
  const address = '10.77.0.1';
  ip('link', 'set', 'lo', 'up');
  ip('link', 'add', 'switch', 'type', 'bridge');
  ip('address', 'add', `${address}/16`, 'dev', 'switch');
  ip('link', 'set', 'switch', 'up');
  // The bridge's own queue is of what this machine sends; what others send to each other passes it by.
  execFileSync('tc', shape('switch', link));
  let plugged = 0;
  return {
    address,
    plug(pid, theirs) {
      plugged += 1;
      const own = `10.77.${(plugged + 1) >> 8}.${(plugged + 1) & 255}`;
      const port = `port${plugged}`;
      const inside = (...command: string[]) => execFileSync('nsenter', ['-t', String(pid), '-n', ...command]);
      ip('link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid));
      ip('link', 'set', port, 'master', 'switch', 'up');
      inside('ip', 'link', 'set', 'lo', 'up');
      inside('ip', 'address', 'add', `${own}/16`, 'dev', 'eth0');
      inside('ip', 'link', 'set', 'eth0', 'up');
      execFileSync('tc', shape(port, theirs));
      inside('tc', ...shape('eth0', theirs));
      return own;
    },
  };
}
