import { expect, it } from 'vitest';
import type { Health } from './health.ts';
import { nodePages, type PagesServer, servePages } from './pages.ts';

const well: Health = { ok: true, checks: [{ name: 'ring', ok: true, message: 'serves' }] };
const unwell: Health = { ok: false, checks: [...well.checks, { name: 'keeper', ok: false, message: 'none' }] };

async function serve(health: () => Promise<Health>): Promise<PagesServer & { url: string }> {
  const metrics = { contentType: 'text/plain; version=0.0.4', text: async () => 'larder_up 1\n' };
  const pages = nodePages({ health, life: async () => well, metrics });
  const server = await servePages(pages, { host: '127.0.0.1', port: 0 });
  return Object.assign(server, { url: `http://127.0.0.1:${server.port}` });
}

it('tell a supervisor what is wrong, and one that restarts only what a restart mends', async () => {
  await using server = await serve(async () => unwell);
  const health = await fetch(`${server.url}/healthz`);
  expect([health.status, await health.text()]).toEqual([503, 'wrong keeper: none\nok    ring: serves\n']);
  const life = await fetch(`${server.url}/livez?verbose`);
  expect([life.status, await life.text()]).toEqual([200, 'ok    ring: serves\n']);
});

it('are documents for who asks for JSON', async () => {
  await using server = await serve(async () => unwell);
  const health = await fetch(`${server.url}/healthz`, { headers: { accept: 'application/json' } });
  expect([health.status, await health.json()]).toEqual([503, unwell]);
});

it('have the type that Prometheus expects', async () => {
  await using server = await serve(async () => well);
  const metrics = await fetch(`${server.url}/metrics`);
  expect(metrics.headers.get('content-type')).toBe('text/plain; version=0.0.4');
  expect(await metrics.text()).toBe('larder_up 1\n');
});

it('are not to be had by other paths or methods, and fail alone', async () => {
  await using server = await serve(async () => {
    throw new Error('the disk is gone');
  });
  expect((await fetch(`${server.url}/secrets`)).status).toBe(404);
  expect((await fetch(`${server.url}/metrics`, { method: 'POST' })).status).toBe(404);
  const health = await fetch(`${server.url}/healthz`);
  expect([health.status, await health.text()]).toEqual([500, 'the disk is gone\n']);
});

it('cannot be served twice at one place, which is said with the setting that names it', async () => {
  await using server = await serve(async () => well);
  const again = servePages({}, { host: '127.0.0.1', port: server.port });
  await expect(again).rejects.toThrow(/LARDER_METRICS: cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/);
});
