import { expect, it } from 'vitest';
import { readObservationSettings } from './observation-settings.ts';

it('serves metrics nowhere unless it is told to', () => {
  expect(readObservationSettings({ LARDER_METRICS: '' })).toEqual({});
});

it('takes a host and a port, with an address in brackets where it has colons', () => {
  const metrics = (text: string) => readObservationSettings({ LARDER_METRICS: text }).metrics;
  expect(metrics('127.0.0.1:9464')).toEqual({ host: '127.0.0.1', port: 9464 });
  expect(metrics('[::1]:0')).toEqual({ host: '::1', port: 0 });
  expect(metrics(':9464')).toEqual({ port: 9464 });
  for (const text of ['9464', 'host', 'a:b', '::1:9464', ':70000', 'http://a:1']) {
    expect(() => metrics(text)).toThrow(/LARDER_METRICS must be HOST:PORT/);
  }
});

it('traces the share of misses that OpenTelemetry is told to sample', () => {
  const traces = (OTEL_TRACES_SAMPLER: string, OTEL_TRACES_SAMPLER_ARG?: string) =>
    readObservationSettings({ OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG }).traces;
  expect(traces('traceidratio', '0.01')).toBe(0.01);
  expect(traces('parentbased_traceidratio', '1')).toBe(1);
  expect(traces('parentbased_always_off')).toBe(0);
  expect(traces('always_on')).toBeUndefined();
  expect(() => traces('traceidratio', '7')).toThrow(/OTEL_TRACES_SAMPLER_ARG must be a share/);
});
