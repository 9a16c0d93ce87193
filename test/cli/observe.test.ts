import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { createWorld, type Started } from './support.ts';

const { directory, larder, ok, documents, start } = createWorld();
const at = (name: string) => join(directory, name);
const socket = at('run/node.sock');

/** A page of the daemon, by its socket or its port. */
function page(path: string, from: { socketPath?: string; port?: number }, accept?: string) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const headers = accept === undefined ? {} : { accept };
    request({ path, host: '127.0.0.1', headers, agent: false, ...from }, async (response) => {
      let body = '';
      for await (const part of response.setEncoding('utf8')) body += part;
      resolve({ status: response.statusCode!, body });
    })
      .on('error', reject)
      .end();
  });
}

describe.skipIf(!canMount)('a node that is looked after', () => {
  let keeper: Started;
  let daemon: Started;
  let port: number;
  const traces: string[] = [];
  const collector = createServer(async (asked, response) => {
    let body = '';
    for await (const part of asked.setEncoding('utf8')) body += part;
    traces.push(body);
    response.end('{}');
  });

  beforeAll(async () => {
    mkdirSync(at('source'));
    for (let file = 0; file < 20; file += 1) writeFileSync(at(`source/${file}.txt`), `${file} `.repeat(1000));
    ok('repository', 'init');
    ok('import', at('source'), 'numbers');
    keeper = start(['keeper'], { LARDER_LOG_FORMAT: 'text' });
    collector.listen(0, '127.0.0.1');
    await once(collector, 'listening');
    daemon = start(['node', 'serve', '--log-format', 'json'], {
      LARDER_METRICS: '127.0.0.1:0',
      LARDER_LOG: 'debug',
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
    });
    port = await metricsPort(daemon);
  });

  afterAll(async () => {
    daemon.kill('SIGTERM');
    await daemon.ended;
    collector.close();
    keeper.kill('SIGTERM');
    await keeper.ended;
  });

  it('counts the misses of a dataset, and where the bytes came from', async () => {
    mkdirSync(at('mnt'));
    ok('mount', 'numbers', at('mnt'));
    for (let file = 0; file < 20; file += 1) {
      expect(readFileSync(at(`mnt/${file}.txt`), 'utf8')).toBe(`${file} `.repeat(1000));
    }
    const { status, body } = await page('/metrics', { port });
    expect(status).toBe(200);
    const value = (series: string) =>
      Number(
        body
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length + 1),
      );
    expect(value('larder_misses_total{dataset="numbers",outcome="ready"}')).toBeGreaterThan(0);
    expect(value('larder_misses_total{dataset="numbers",outcome="failed"}')).toBe(0);
    expect(value('larder_fetched_bytes_total{from="bucket"}')).toBeGreaterThan(0);
    expect(value('larder_ring_lookups_total{outcome="ready"}')).toBeGreaterThan(0);
    expect(value('larder_cache_objects')).toBe(20);
    expect(value('larder_volumes{kind="pinned"}')).toBe(1);
    expect(value('larder_keeper_connected')).toBe(1);
    expect(value('larder_healthy{check="ring"}')).toBe(1);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(1e6);
    expect((await page('/metrics', { socketPath: socket })).body).toContain('larder_misses_total');
  });

  it('follows the conventions of Prometheus', async () => {
    const { body } = await page('/metrics', { port });
    const types = [...body.matchAll(/^# TYPE (larder_\S+) (\S+)$/gm)].map(([, name, type]) => ({ name: name!, type }));
    expect(types.length).toBeGreaterThan(30);
    for (const { name, type } of types) {
      expect(name).toMatch(/^[a-z_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    }
  });

  it('has each of its metrics in the manual, and nothing that is not there', async () => {
    const { body } = await page('/metrics', { port });
    const served = [...body.matchAll(/^# TYPE (larder_\S+) /gm)].map(([, name]) => name!);
    const manual = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'nodes.md'), 'utf8');
    const told = [...manual.matchAll(/^\| `(larder_[a-z_]+)/gm)].map(([, name]) => name!);
    expect(served.toSorted()).toEqual(told.toSorted());
  });

  it('is healthy, and says so to people, programs and scripts', async () => {
    const text = await page('/healthz', { port });
    expect(text).toMatchObject({ status: 200, body: expect.stringContaining('ok    keeper: process') });
    const json = await page('/healthz', { socketPath: socket }, 'application/json');
    expect(JSON.parse(json.body)).toMatchObject({ ok: true });
    expect(ok('status')).toContain('health   well');
    expect(larder('status', '--check').status).toBe(0);
  });

  it('says what is wrong, and asks for no restart that would not help', async () => {
    keeper.kill('SIGTERM');
    await keeper.ended;
    await until(async () => (await page('/healthz', { port })).status === 503, 10_000);
    const { body } = await page('/healthz', { port });
    expect(body.split('\n')[0]).toMatch(/^wrong keeper: none holds the ring/);
    expect((await page('/livez', { port })).status).toBe(200);
    expect(larder('status', '--check')).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('wrong    keeper'),
      stderr: expect.stringContaining('not well: keeper'),
    });
    expect(larder('status').status).toBe(0);
    keeper = start(['keeper']);
    await until(async () => (await page('/healthz', { port })).status === 200, 10_000);
  });

  it('is shown as it goes on, one document an interval', () => {
    const reports = documents('top', '--interval', '100ms', '--count', '2');
    expect(reports).toHaveLength(2);
    expect(reports[0]).toMatchObject({
      seconds: expect.any(Number),
      fetched: { bucket: { bytesPerSecond: expect.any(Number) } },
      datasets: [{ dataset: 'numbers', misses: expect.objectContaining({ ready: expect.any(Number) }) }],
      volumes: [{ dataset: 'numbers', directory: at('mnt') }],
    });
    expect(ok('top', '--count', '1')).toContain('numbers');
  });

  it('logs JSON, with what each line is about', async () => {
    const records = daemon
      .stderr()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records[0]).toMatchObject({ component: 'node', level: expect.any(String), time: expect.any(String) });
    const missed = records.filter(({ message }) => /^object \w+ was waited for: ready$/.test(String(message)));
    expect(missed.length).toBeGreaterThan(0);
    expect(missed[0]).toMatchObject({ dataset: 'numbers', repository: at('repository'), level: 'debug' });
    expect(missed[0]).toHaveProperty('volume');
    expect(missed[0]).toHaveProperty('version');
  });

  it('sends a trace of each miss, the last ones when it ends', async () => {
    ok('unmount', at('mnt'));
    daemon.kill('SIGTERM');
    expect(await daemon.ended).toMatchObject({ status: 0 });
    const sent = traces.join('');
    expect(sent).toContain('"name":"miss"');
    expect(sent).toContain('{"key":"larder.dataset","value":{"stringValue":"numbers"}}');
    expect(sent).toContain('{"key":"service.name","value":{"stringValue":"larder"}}');
  });
});

/** The port that was free. */
async function metricsPort(daemon: Started): Promise<number> {
  let port: number | undefined;
  await until(() => {
    port = Number(/"metricsPort":(\d+)/.exec(daemon.stderr())?.[1]) || undefined;
    return port !== undefined;
  }, 15_000);
  return port!;
}

async function until(holds: () => boolean | Promise<boolean>, patience: number): Promise<void> {
  const end = Date.now() + patience;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`it did not happen within ${patience} ms: ${holds}`);
    await sleep(50);
  }
}
