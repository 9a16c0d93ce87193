import type { Digest } from '../dataset/digest.ts';
import { aboutVersion } from './about-version.ts';
import { mountedVolume } from './calls.ts';
import { createHealth, type Health } from './health.ts';
import { nodeProbes } from './health-probes.ts';
import { createMetrics } from './metrics.ts';
import type { Node } from './node.ts';
import { nodePages, type Pages, type PagesAddress, servePages } from './pages.ts';
import type { NodeStats } from './protocol.ts';
import { createStateReader, type NodeState } from './state.ts';
import { startTracing, wantsTraces } from './trace.ts';

export interface ObservationOptions {
  /** Larder's own. */
  readonly version: string;
  /** Where /metrics, /healthz and /livez are served besides the daemon's socket. */
  readonly metrics?: PagesAddress;
  /** The share of misses that is traced where OpenTelemetry's variables name a collector. */
  readonly traces?: number;
}

/** What can be seen of a node from outside. */
export interface Observation extends AsyncDisposable {
  readonly pages: Pages;
  readonly health: () => Promise<Health>;
  readonly state: () => Promise<NodeState>;
  readonly stats: () => Promise<NodeStats>;
  /** Where the pages are served besides the socket. */
  readonly port?: number;
}

/** Watches a node until it is disposed of. */
export async function observeNode(
  node: Node,
  { version, metrics: address, traces }: ObservationOptions,
): Promise<Observation> {
  await using stack = new AsyncDisposableStack();
  const cache = node.cache.layout.directory;
  const state = createStateReader(node);
  const watched = stack.use(nodeProbes(node));
  const health = createHealth(watched.probes);
  const datasetOf = (id: string) => node.known.get(id as Digest)?.dataset;
  const metrics = stack.use(createMetrics({ cache, datasetOf, state, health, version }));
  if (wantsTraces(process.env)) {
    stack.use(await startTracing({ cache, version, ratio: traces, about: (id) => aboutVersion(node, id) }));
  }
  const pages = nodePages({ health, life: createHealth(watched.vital), metrics });
  const served = address === undefined ? undefined : stack.use(await servePages(pages, address));
  const held = stack.move();
  return {
    pages,
    health,
    state,
    async stats() {
      const [counts, now, wrong] = await Promise.all([metrics.counts(), state(), health()]);
      const volumes = node.volumes.records.all().map((record) => mountedVolume(record, node));
      const whenAndUse = { at: Date.now(), uptimeSeconds: process.uptime(), process: ownUse() };
      return { ...whenAndUse, counts, state: now, health: wrong, volumes };
    },
    ...(served !== undefined && { port: served.port }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function ownUse(): NodeStats['process'] {
  const { user, system } = process.cpuUsage();
  return { residentBytes: process.memoryUsage.rss(), cpuSeconds: (user + system) / 1e6 };
}
