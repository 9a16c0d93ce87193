import { statfs } from 'node:fs/promises';
import type { Repository } from '../dataset/repository.ts';
import type { Check, Probe } from './health.ts';
import type { Node } from './node.ts';
import type { Reach } from './reach.ts';
import type { SaveStats } from './saves/saves.ts';

/** Everything that is looked at on a node. Dispose of it at the end. */
export interface NodeProbes extends Disposable {
  readonly probes: Readonly<Record<string, Probe>>;
  /**
   * Of them, those about what only a new daemon mends: a supervisor that restarts for less would do harm. They ask nobody, and are
   * answered at once.
   */
  readonly vital: Readonly<Record<string, Probe>>;
}

/** Below this, in bytes, a disk counts as full: an object, an image or a journal may not fit. */
const FULL = 64 * 2 ** 20;
/** How far back it is looked for an event loop that stood still, in milliseconds. */
const RECENT = 60_000;
/** How often the event loop is looked at, and how long it may stand, in milliseconds. */
const PACE = 500;
const STUCK = 5_000;

export function nodeProbes(node: Node): NodeProbes {
  const loop = watchEventLoop();
  const ring = ringProbe(node);
  return {
    vital: { ring },
    probes: {
      ring,
      keeper: () => keeperCheck(node),
      disk: () => diskCheck(node.cache.layout.directory),
      repositories: repositoriesProbe(() => node.repositories.opened(), node.reach),
      volumes: () => volumesCheck(node),
      saves: () => savesCheck(node),
      neighbours: () => neighboursCheck(node),
      opens: () => opensCheck(node),
      'event-loop': loop.probe,
    },
    [Symbol.dispose]() {
      loop[Symbol.dispose]();
    },
  };
}

function ringProbe({ failed, paths }: Node): Probe {
  let wrong: string | undefined;
  failed.catch((error: Error) => {
    wrong = error.message;
  });
  return () => ({ name: 'ring', ok: wrong === undefined, message: wrong ?? `serves ${paths.ring}` });
}

function keeperCheck({ ring }: Node): Check {
  const pid = ring.keeperPid();
  if (pid !== undefined) return { name: 'keeper', ok: true, message: `process ${pid} holds the ring` };
  const message = "none holds the ring: a restart of the daemon would fail opens that wait; 'larder keeper' starts one";
  return { name: 'keeper', ok: false, message };
}

/** Reads go on by streaming when it is full; nothing more is cached, and nothing staged. */
async function diskCheck(directory: string): Promise<Check> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  const mebibytes = `${Math.floor(free / 2 ** 20).toLocaleString('en')} MiB free at ${directory}`;
  if (free >= FULL) return { name: 'disk', ok: true, message: mebibytes };
  return { name: 'disk', ok: false, message: `${mebibytes}: free some, or 'larder cache evict'` };
}

/** Each repository that is open. */
export function repositoriesProbe(
  opened: () => readonly Pick<Repository, 'location'>[],
  reach: Pick<Reach, 'ask'>,
): Probe {
  const look = async ({ location }: Pick<Repository, 'location'>): Promise<Check> => {
    const { ok, message } = await reach.ask(location);
    return { name: `repository ${location}`, ok, message: ok ? message : `${message}; what is cached is read on` };
  };
  return () => Promise.all(opened().map(look));
}

/** A volume that this daemon has not taken up has what is cached, and gets nothing else. */
function volumesCheck({ volumes, versions }: Node): Check {
  const records = volumes.records.all().filter(({ state }) => state === 'staged');
  const taken = new Set(versions.sources().map(({ version }) => version));
  const lost = records.filter(({ version }) => !taken.has(version)).map(({ volume }) => volume);
  if (lost.length === 0) return { name: 'volumes', ok: true, message: `${records.length} staged` };
  const message = `${lost.join(', ')} not taken up by this daemon yet, so that opens of what is not cached wait or fail: is the repository away?`;
  return { name: 'volumes', ok: false, message };
}

/** Only where this node saves workspaces. */
function savesCheck({ volumes: { saves } }: Node): readonly Check[] {
  if (!saves.isMember) return [];
  return [savesHealth(saves.stats())];
}

/** Of workspaces with records: what another node has now is not saved here, whether it is staged or not. */
export function savesHealth({
  staged,
  unsaved,
  failing,
  fenced,
}: Pick<SaveStats, 'staged' | 'unsaved' | 'failing' | 'fenced'>): Check {
  const these = (count: number, one: string, many: string) =>
    count === 1 ? `1 workspace ${one}` : `${count} workspaces ${many}`;
  const parts = [
    ...(failing > 0
      ? [these(failing, 'cannot be saved now: changes to it', 'cannot be saved now: changes to them')].map(
          (text) => `${text} are on this node only`,
        )
      : []),
    ...(fenced > 0
      ? [these(fenced, 'belongs to another node now: changes to it', 'belong to other nodes now: changes to them')].map(
          (text) => `${text} are set aside`,
        )
      : []),
    these(Math.max(staged + unsaved - fenced, 0), 'is saved here', 'are saved here'),
    ...(unsaved > 0
      ? [`${unsaved} of all ${unsaved === 1 ? 'is' : 'are'} unstaged, with the last changes on their way`]
      : []),
  ];
  return { name: 'saves', ok: failing + fenced === 0, message: parts.join('; ') };
}

/** Only where this node asks others. */
function neighboursCheck({ neighbours }: Node): readonly Check[] {
  if (neighbours === undefined) return [];
  const { nodes, passedOver } = neighbours.stats();
  if (nodes.length === 0) {
    const message = 'the list of nodes is empty, so that all is fetched from the bucket: see LARDER_NEIGHBOURS';
    return [{ name: 'neighbours', ok: false, message }];
  }
  return [{ name: 'neighbours', ok: true, message: `${nodes.length} nodes, ${passedOver.length} passed over` }];
}

function opensCheck({ events }: Node): Check {
  const failures = events.recentFailures();
  if (failures === undefined) return { name: 'opens', ok: true, message: 'none failed in the last minute' };
  const message = `${failures.count} failed in the last minute, the last: ${failures.latest}`;
  return { name: 'opens', ok: false, message };
}

/** Whether the main thread stood still: it then answers nobody, and a check that is answered comes after that. */
export function watchEventLoop({ pace = PACE, stuck = STUCK } = {}): { readonly probe: Probe } & Disposable {
  let last = performance.now();
  let longest = { at: last, milliseconds: 0 };
  const look = () => {
    const now = performance.now();
    const milliseconds = Math.max(0, now - last - pace);
    if (milliseconds >= longest.milliseconds || now - longest.at > RECENT) longest = { at: now, milliseconds };
    last = now;
  };
  const timer = setInterval(look, pace);
  timer.unref();
  return {
    probe: () => {
      const ok = longest.milliseconds < stuck;
      const message = `stood still for ${Math.round(longest.milliseconds)} ms at most in the last minute`;
      return {
        name: 'event-loop',
        ok,
        message: ok ? message : `${message}: too little CPU, or a fault of the daemon's`,
      };
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
