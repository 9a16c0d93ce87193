import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { createEventMetrics, type EventMetricsOptions } from './event-metrics.ts';
import type { Health } from './health.ts';
import type { NodeState } from './state.ts';
import { createStateMetrics } from './state-metrics.ts';
import type { EventCounts } from './stats-types.ts';

/** What the daemon tells a Prometheus. */
export interface Metrics extends Disposable {
  readonly contentType: string;
  /** All series as they are now. */
  text(): Promise<string>;
  /** Those that events are counted in. */
  counts(): Promise<EventCounts>;
}

export interface MetricsOptions extends Omit<EventMetricsOptions, 'registry'> {
  readonly state: () => Promise<NodeState>;
  readonly health: () => Promise<Health>;
  /** Larder's own. */
  readonly version: string;
}

/** How often the event loop's delay is measured, in milliseconds. */
const EVENT_LOOP_PRECISION = 50;

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const events = createEventMetrics({ ...options, registry });
  const setState = createStateMetrics(registry);
  const healthy = new Gauge({
    name: 'larder_healthy',
    help: '1 where nothing is wrong, by check: see /healthz',
    labelNames: ['check'],
    registers,
  });
  new Gauge({ name: 'larder_build_info', help: 'Always 1', labelNames: ['version'], registers }).set(
    { version: options.version },
    1,
  );
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION });

  return {
    contentType: registry.contentType,
    async text() {
      const [state, health] = await Promise.all([options.state(), options.health()]);
      setState(state);
      healthy.reset();
      for (const { name, ok } of health.checks) healthy.set({ check: name }, ok ? 1 : 0);
      return await registry.metrics();
    },
    counts: () => events.counts(),
    [Symbol.dispose]() {
      events[Symbol.dispose]();
      registry.clear();
    },
  };
}
