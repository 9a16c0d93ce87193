import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CsiClient, connectCsi } from '../test/csi/client.ts';
import type { CallRecord } from './call.ts';
import { createIdentity } from './identity.ts';
import { type CsiServer, startCsiServer } from './server.ts';

let directory: string;
let server: CsiServer | undefined;
let client: CsiClient | undefined;
const records: CallRecord[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'larder-server-'));
  records.length = 0;
});
afterEach(async () => {
  client?.close();
  await server?.close();
  server = undefined;
  rmSync(directory, { recursive: true });
});

const identity = createIdentity({ version: '1', controller: false });

/** Starts a server whose probe does what the test wants. */
async function start(probe = identity.Probe): Promise<string> {
  server = await startCsiServer({
    endpoint: `unix://${directory}/csi.sock`,
    services: { Identity: { ...identity, Probe: probe } },
    log: (record) => records.push(record),
  });
  client = connectCsi(server.path);
  return server.path;
}

describe('the server', () => {
  it('lets calls end that are under way when it stops, and removes its socket', async () => {
    const working = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const path = await start(async () => {
      working.resolve();
      await release.promise;
      return { ready: { value: true } };
    });
    const answer = client?.call('Probe');
    await working.promise;
    const closed = server?.close();
    server = undefined;
    await sleep(50);
    release.resolve();
    expect(await answer).toEqual({ ready: { value: true } });
    await closed;
    expect(existsSync(path)).toBe(false);
  });

  it('does not wait for a call longer than it is told to', async () => {
    const working = Promise.withResolvers<void>();
    await start(() => {
      working.resolve();
      return new Promise(() => {});
    });
    const answer = client?.fail('Probe');
    await working.promise;
    await server?.close(50);
    server = undefined;
    expect((await answer)?.code).toBe(status.CANCELLED);
  });

  it('tells a call that nobody waits for it any more', async () => {
    const ended = Promise.withResolvers<void>();
    await start((_request, signal) => {
      signal.addEventListener('abort', () => ended.resolve());
      return ended.promise.then(() => {
        throw signal.reason;
      });
    });
    const failed = await client?.fail('Probe', {}, { deadline: Date.now() + 100 });
    await ended.promise;
    expect(failed?.code).toBe(status.DEADLINE_EXCEEDED);
    await sleep(10);
    expect(records).toMatchObject([{ method: 'Probe', code: 'CANCELLED', message: 'the caller has given up' }]);
  });

  it('takes the place of one that has stopped', async () => {
    await start();
    client?.close();
    await server?.close();
    await start();
    expect(await client?.call('Probe')).toEqual({ ready: { value: true } });
  });

  it('is not started twice on one socket', async () => {
    await start();
    const second = startCsiServer({
      endpoint: `unix://${directory}/csi.sock`,
      services: { Identity: identity },
      log: () => {},
    });
    await expect(second).rejects.toThrow(/another process listens/);
    expect(await client?.call('Probe')).toEqual({ ready: { value: true } });
  });

  it('answers a fault of its own with INTERNAL, and logs where it came from', async () => {
    await start(async () => {
      throw new TypeError('cannot read \u{e9}\nof undefined');
    });
    expect(await client?.fail('Probe')).toEqual({
      code: status.INTERNAL,
      details: 'cannot read \u{e9}\nof undefined',
    });
    expect(records).toMatchObject([{ method: 'Probe', code: 'INTERNAL' }]);
    expect((records[0]!.error as Error).stack).toMatch(/TypeError.*server\.test\.ts/s);
  });
});
