import type { Metric } from 'prom-client';
import type { Distribution } from './stats-types.ts';

/** One series' value now. */
export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number | undefined>>;
  /** Of a histogram: which of its series. */
  readonly metricName?: string;
}

export type Labels = Readonly<Record<string, string>>;

export async function samplesOf(metric: Metric): Promise<readonly Sample[]> {
  return (await metric.get()).values as readonly Sample[];
}

/** Of the samples that have these labels. */
export function sumOf(samples: readonly Sample[], labels: Labels = {}): number {
  return samples.reduce((sum, sample) => (has(sample, labels) ? sum + sample.value : sum), 0);
}

/** A histogram's series with these labels. Its own counts are cumulative. */
export function distributionOf(samples: readonly Sample[], bounds: readonly number[], labels: Labels): Distribution {
  const below = (bound: number | string) =>
    samples.find(
      (sample) => sample.metricName?.endsWith('_bucket') && sample.labels.le === bound && has(sample, labels),
    )?.value ?? 0;
  const cumulative = [...bounds, '+Inf'].map(below);
  return {
    bounds,
    counts: cumulative.map((count, at) => count - (cumulative[at - 1] ?? 0)),
    sum: sumOf(
      samples.filter((sample) => sample.metricName?.endsWith('_sum')),
      labels,
    ),
  };
}

function has({ labels }: Sample, wanted: Labels): boolean {
  return Object.entries(wanted).every(([name, value]) => labels[name] === value);
}
