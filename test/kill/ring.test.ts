import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { contentOf, writeContentIds } from '../../mount/fuse/testing/contents.ts';
import type { DaemonOptions } from '../../mount/fuse/testing/daemon.ts';
import type { ReaderResult } from '../../mount/fuse/testing/endless-reader.ts';
import { outputOf, type Running, startScript, threadStates } from '../../mount/fuse/testing/processes.ts';
import { createRig, rigFile } from '../../mount/fuse/testing/rig.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { canMount } from '../support/privilege.ts';

const FILES = 20_000;
const READERS = 6;
const KINDS = [
  { what: 'fetched', stream: false, kills: killRounds(24) },
  { what: "given out as the ring's own", stream: true, kills: killRounds(12) },
];

describe.skipIf(!canMount)('the daemon', () => {
  it.each(KINDS)(
    'is killed $kills times while files are $what and read, and no reader sees a wrong byte or an error',
    {
      timeout: 240_000,
    },
    async ({ stream, kills }) => {
      const rig = await createRig(Array.from({ length: FILES }, (_, index) => rigFile(`f${index}`, contentOf(index))));
      const directory = mkdtempSync(join(tmpdir(), 'larder-kill-'));
      const socket = join(directory, 'keeper.sock');
      const running = new Set<Running>();
      const startTracked = (file: string, args: readonly string[] = []) => {
        const one = startScript(file, args);
        running.add(one);
        void one.ended.then(() => running.delete(one));
        return one;
      };
      const printed = (one: Running, text: string) =>
        expect.poll(() => one.output(), { timeout: 60_000, interval: 5 }).toContain(text);
      try {
        const keeper = startTracked('keeper.ts', [socket]);
        await printed(keeper, 'keeping');
        const ids = join(directory, 'ids');
        writeContentIds(ids, FILES);
        const options: DaemonOptions = { root: rig.root, socket, ids, deadline: 60_000, delay: 20, stream };
        const startDaemon = (dieAt = 0) => startTracked('daemon.ts', [JSON.stringify({ ...options, dieAt })]);
        const began = performance.now();
        let daemon = startDaemon();
        await printed(daemon, 'holds the ring');
        const startup = performance.now() - began;
        const version = await rig.overlay('version');
        const startReader = (number: number) =>
          startTracked('endless-reader.ts', [version, String(number), String(READERS), String(FILES)]);
        const readers = Array.from({ length: READERS }, (_, number) => startReader(number));
        const descriptors = () => readdirSync(`/proc/${keeper.pid}/fd`).length;

        const moment = spreadMoments();
        let inStartup = 0;
        const before = descriptors();
        for (let kill = 0; kill < kills; kill += 1) {
          // By turns in the first moments of its life, and at something that it is asked for.
          if (kill % 2 === 0) {
            await sleep(moment() * 1.3 * startup);
            if (!daemon.output().includes('up')) inStartup += 1;
            daemon.child.kill('SIGKILL');
          }
          expect(await daemon.ended, daemon.output()).toBe('SIGKILL');
          daemon = startDaemon(kill % 2 === 0 ? 1 + Math.floor(moment() * 60) : undefined);
          if (kill % 10 === 9) {
            const victim = kill % READERS;
            readers[victim]!.child.kill('SIGKILL');
            await readers[victim]!.ended;
            readers[victim] = startReader(victim);
          }
        }
        await printed(daemon, 'up: joined');
        await sleep(500);
        for (const reader of readers) reader.child.kill('SIGTERM');
        const total = { right: 0, wrong: [] as string[], errors: {} as Record<string, number> };
        for (const reader of readers) {
          const { right, wrong, errors } = JSON.parse((await outputOf(reader)).trim()) as ReaderResult;
          total.right += right;
          total.wrong.push(...wrong);
          for (const [code, count] of Object.entries(errors)) total.errors[code] = (total.errors[code] ?? 0) + count;
        }
        console.log(`${kills} kills, ${inStartup} of them before the daemon was up: ${total.right} reads right`);
        expect(total).toMatchObject({ wrong: [], errors: {} });
        expect(total.right).toBeGreaterThan(kills * 3);
        expect(inStartup).toBeGreaterThan(0);

        const left = () => {
          daemon.child.kill('SIGUSR2');
          return JSON.parse(/.*\n$/.exec(daemon.output())?.[0].match(/\{.*\}/)?.[0] ?? '{}') as unknown;
        };
        await expect.poll(left, { timeout: 10_000 }).toMatchObject({ held: 0, watched: 0, resolving: 0 });
        expect([...running].flatMap((one) => threadStates(one.pid))).not.toContain('D');
        expect(descriptors()).toBeLessThanOrEqual(before + 4);
      } finally {
        for (const one of [...running]) {
          one.child.kill('SIGKILL');
          await one.ended;
        }
        await rig.cleanup();
        rmSync(directory, { recursive: true });
      }
    },
  );
});
