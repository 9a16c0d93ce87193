import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasS3Server, S3_SERVER_TIMEOUT, startS3Server } from '../test/support/s3-server.ts';
import { randomBytes } from './corpus.ts';
import { openLink } from './link.ts';
import { compileProgram } from './programs.ts';

const hasCompiler = spawnSync('cc', ['--version']).status === 0;

describe.skipIf(!hasS3Server || !hasCompiler)('a link that is slow and far', () => {
  it(
    'passes on every byte of many connections at once, and counts requests',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'larder-link-'));
      try {
        await using server = await startS3Server();
        await using link = await openLink(compileProgram(directory, 'shape'), server, {
          milliseconds: 2,
          bytesPerSecond: 50e6,
        });
        const bucket = await server.makeBucket();
        const bodies = Array.from({ length: 12 }, (_, index) => randomBytes(index)(index * 300_000));
        for (const [index, body] of bodies.entries()) await server.request('PUT', `/${bucket}/${index}`, { body });
        const targets = link.targets(bodies.map((_, index) => `/${bucket}/${index}`));
        const got = await Promise.all(
          targets.map(async (target) => Buffer.from(await (await fetch(`${link.endpoint}${target}`)).arrayBuffer())),
        );
        for (const [index, body] of bodies.entries()) expect(body.equals(got[index]!), `object ${index}`).toBe(true);
        const bytes = bodies.reduce((sum, { length }) => sum + length, 0);
        const passed = await link.takePassed();
        expect(passed).toMatchObject({ get: bodies.length, list: 0, head: 0, other: 0 });
        expect(passed.received).toBeGreaterThan(bytes);
        expect(await link.takePassed()).toMatchObject({ connections: 0, get: 0, sent: 0, received: 0 });
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    S3_SERVER_TIMEOUT,
  );

  it(
    'ends connections whose other end is gone',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'larder-link-'));
      try {
        await using server = await startS3Server();
        await using link = await openLink(compileProgram(directory, 'shape'), server, {
          milliseconds: 2,
          bytesPerSecond: 0,
        });
        await server.stop();
        await expect(fetch(link.endpoint)).rejects.toThrow();
        await server.restart();
        expect((await fetch(link.endpoint)).status).toBe(403);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    S3_SERVER_TIMEOUT,
  );
});
