import type { PagesAddress } from '../node/pages.ts';
import { choice, read, type Variables } from './node-settings.ts';

/** What the environment says of how a node's daemon is seen. */
export interface ObservationSettings {
  /** Where metrics and health are served: LARDER_METRICS. */
  readonly metrics?: PagesAddress;
  /** The share of misses that is traced: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. */
  readonly traces?: number;
}

/** OpenTelemetry's names; a miss has no parent that could have been sampled. */
const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;

/** @throws InvalidError that names the variable and what it may be */
export function readObservationSettings(env: Variables): ObservationSettings {
  const metrics = read(env, 'LARDER_METRICS', parseAddress, 'HOST:PORT, such as 127.0.0.1:9464, [::1]:9464 or :9464');
  const sampler = choice(env, 'OTEL_TRACES_SAMPLER', SAMPLERS)?.replace('parentbased_', '');
  const ratio = read(env, 'OTEL_TRACES_SAMPLER_ARG', parseRatio, 'a share, from 0 to 1');
  const traces = sampler === 'always_off' ? 0 : sampler === 'traceidratio' ? ratio : undefined;
  return { ...(metrics !== undefined && { metrics }), ...(traces !== undefined && { traces }) };
}

function parseAddress(text: string): PagesAddress | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) return undefined;
  const host = match[1] ?? match[2];
  return host ? { host, port } : { port };
}

function parseRatio(text: string): number | undefined {
  const ratio = Number(text);
  return ratio >= 0 && ratio <= 1 ? ratio : undefined;
}
